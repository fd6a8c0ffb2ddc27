/* See access.h. */
#include "daemon/access.h"

#include "daemon/number.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 64 /* NUL included; the system allows 32 */

typedef bool (*find_id)(const char *name, uint32_t *out_id);

static bool find_user(const char *name, uint32_t *out_id)
{
    const struct passwd *user = getpwnam(name);
    if (user != NULL)
        *out_id = user->pw_uid;
    return user != NULL;
}

static bool find_group(const char *name, uint32_t *out_id)
{
    const struct group *group = getgrnam(name);
    if (group != NULL)
        *out_id = group->gr_gid;
    return group != NULL;
}

/* All digits: a number, whether or not somebody has it. The largest is the system's "none". */
static bool read_number(const char *text, uint32_t *out_id)
{
    uint64_t number;
    if (!fc_number_read(&text, UINT32_MAX - 1, &number) || *text != '\0')
        return false;
    *out_id = (uint32_t)number;
    return true;
}

static fc_status read_one(const char *text, size_t bytes, find_id find, const char *noun, uint32_t *out_id,
                          fc_reason *out_reason)
{
    char name[NAME_BYTES];
    if (bytes == 0 || bytes >= sizeof name)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "expected %ss by name or number, got \"%.60s\"", noun, text);
    memcpy(name, text, bytes);
    name[bytes] = '\0';
    if (read_number(name, out_id) || find(name, out_id))
        return FC_OK;
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "no such %s: \"%s\"", noun, name);
}

static fc_status read_list(const char *text, find_id find, const char *noun, fc_access_list *out_list,
                           fc_reason *out_reason)
{
    fc_access_list list = {.count = 0};
    while (text[0] != '\0') {
        size_t bytes = strcspn(text, ",");
        if (list.count == FC_ACCESS_IDS_MAX)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "expected at most %d %ss", FC_ACCESS_IDS_MAX, noun);
        fc_status st = read_one(text, bytes, find, noun, &list.ids[list.count], out_reason);
        if (st != FC_OK)
            return st;
        list.count++;
        text += bytes;
        if (text[0] == ',' && text[1] == '\0')
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "expected another %s after the last comma", noun);
        text += text[0] == ',';
    }
    *out_list = list;
    return FC_OK;
}

fc_status fc_access_read_uids(const char *text, fc_access_list *out_list, fc_reason *out_reason)
{
    return read_list(text, find_user, "user", out_list, out_reason);
}

fc_status fc_access_read_gids(const char *text, fc_access_list *out_list, fc_reason *out_reason)
{
    return read_list(text, find_group, "group", out_list, out_reason);
}

fc_status fc_access_read_owner(const char *user, const char *group, fc_socket_owner *out_owner, fc_reason *out_reason)
{
    fc_socket_owner owner = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    fc_status st = FC_OK;
    if (user[0] != '\0')
        st = read_one(user, strlen(user), find_user, "user", &owner.uid, out_reason);
    if (st == FC_OK && group[0] != '\0')
        st = read_one(group, strlen(group), find_group, "group", &owner.gid, out_reason);
    if (st == FC_OK)
        *out_owner = owner;
    return st;
}

static bool has(const fc_access_list *list, uint32_t id)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->ids[i] == id)
            return true;
    return false;
}

bool fc_access_allows(const fc_access *access, uid_t uid, gid_t gid)
{
    bool has_lists = access->uids.count > 0 || access->gids.count > 0;
    return !has_lists || has(&access->uids, uid) || has(&access->gids, gid);
}
