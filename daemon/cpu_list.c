/* See cpu_list.h. */
#include "daemon/cpu_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Reads one number and moves past it. */
static bool read_number(const char **text, unsigned long *out_number)
{
    char *end;
    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    *out_number = strtoul(*text, &end, 10);
    *text = end;
    return errno == 0 && *out_number < CPU_SETSIZE;
}

/* "3" or "3-5". */
static bool read_range(const char **text, unsigned long *out_first, unsigned long *out_last)
{
    if (!read_number(text, out_first))
        return false;
    *out_last = *out_first;
    if (**text != '-')
        return true;
    ++*text;
    return read_number(text, out_last) && *out_first <= *out_last;
}

fc_status fc_cpu_list_parse(const char *text, fc_cpu_list *out_list, fc_reason *out_reason)
{
    fc_cpu_list list = {.count = 0};
    const char *rest = text;
    unsigned long first, last;
    CPU_ZERO(&list.set);
    while (*rest != '\0') {
        if (!read_range(&rest, &first, &last) || (*rest != '\0' && (*rest != ',' || rest[1] == '\0')))
            return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                           "expected processors as in 0-3,8, each below %d, got \"%.60s\"", CPU_SETSIZE, text);
        for (unsigned long cpu = first; cpu <= last; cpu++)
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
