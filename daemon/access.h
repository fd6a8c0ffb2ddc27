/* Which users may connect over UNIX sockets: lists of users and groups, by number or name. The system says who a peer
 * is (SO_PEERCRED); what a peer says of itself counts for nothing.
 *
 * Reading the lists asks the system's user database: loop thread, at start. The rest is pure.
 */
#ifndef FC_DAEMON_ACCESS_H
#define FC_DAEMON_ACCESS_H

#include "proto/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FC_ACCESS_IDS_MAX 64

typedef struct fc_access_list {
    uint32_t count; /* 0: nobody by this list */
    uint32_t ids[FC_ACCESS_IDS_MAX];
} fc_access_list;

/* Both empty: everybody. */
typedef struct fc_access {
    fc_access_list uids, gids;
} fc_access;

/* Who is at the other end, as the system says. */
typedef struct fc_peer_identity {
    bool is_local; /* over a UNIX socket: has the next two */
    uid_t uid;
    gid_t gid;
    uint64_t host; /* else: a number for its address */
} fc_peer_identity;

/* A number for the user or host, never 0: whose connections belong together. */
static inline uint64_t fc_peer_owner(const fc_peer_identity *who)
{
    return who->is_local ? 1ull << 32 | who->uid : 1ull << 63 | who->host;
}

/* Was that number made of a host, so that its connections came over tcp? */
static inline bool fc_peer_owner_is_remote(uint64_t owner)
{
    return owner >> 63 != 0;
}

/* Who sockets in the file system belong to. */
typedef struct fc_socket_owner {
    uid_t uid; /* (uid_t)-1: whoever the process is */
    gid_t gid; /* likewise */
} fc_socket_owner;

/* Reads "1000,alice"; "" is an empty list. FC_INVALID_ARGUMENT: no such user or group, or too many; the reason says
 * which. */
fc_status fc_access_read_uids(const char *text, fc_access_list *out_list, fc_reason *out_reason);
fc_status fc_access_read_gids(const char *text, fc_access_list *out_list, fc_reason *out_reason);

/* Reads one user and one group, "" for as it is. */
fc_status fc_access_read_owner(const char *user, const char *group, fc_socket_owner *out_owner, fc_reason *out_reason);

/* Is that user on one of the lists, or its group on the other, or are there none? */
bool fc_access_allows(const fc_access *access, uid_t uid, gid_t gid);

#endif
