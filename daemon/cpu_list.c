/* See cpu_list.h. */
#include "daemon/cpu_list.h"

#include "daemon/number.h"

#include <errno.h>
#include <string.h>

/* "3" or "3-5". */
static bool read_range(const char **text, uint64_t *out_first, uint64_t *out_last)
{
    if (!fc_number_read(text, CPU_SETSIZE - 1, out_first))
        return false;
    *out_last = *out_first;
    if (**text != '-')
        return true;
    ++*text;
    return fc_number_read(text, CPU_SETSIZE - 1, out_last) && *out_first <= *out_last;
}

fc_status fc_cpu_list_parse(const char *text, fc_cpu_list *out_list, fc_reason *out_reason)
{
    fc_cpu_list list = {.count = 0};
    const char *rest = text;
    uint64_t first, last;
    CPU_ZERO(&list.set);
    while (*rest != '\0') {
        if (!read_range(&rest, &first, &last) || (*rest != '\0' && (*rest != ',' || rest[1] == '\0')))
            return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                           "expected processors as in 0-3,8, each below %d, got \"%.60s\"", CPU_SETSIZE, text);
        for (uint64_t cpu = first; cpu <= last; cpu++)
            CPU_SET(cpu, &list.set);
        rest += *rest == ',';
    }
    list.count = (uint32_t)CPU_COUNT(&list.set);
    *out_list = list;
    return FC_OK;
}

fc_status fc_cpu_list_bind(const fc_cpu_list *list, cpu_set_t *out_before, fc_reason *out_reason)
{
    if (list->count == 0)
        return FC_OK;
    if (sched_getaffinity(0, sizeof *out_before, out_before) != 0 ||
        sched_setaffinity(0, sizeof list->set, &list->set) != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "lane-cpus: this process may run on none of the %u processors named: %s", (unsigned)list->count,
                       strerror(errno));
    return FC_OK;
}

void fc_cpu_list_restore(const fc_cpu_list *list, const cpu_set_t *before)
{
    if (list->count > 0)
        sched_setaffinity(0, sizeof *before, before);
}
