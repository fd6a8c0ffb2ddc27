/* See number.h. */
#include "daemon/number.h"

#include <errno.h>
#include <stdlib.h>

bool fc_number_read(const char **text, uint64_t max, uint64_t *out_number)
{
    char *end;
    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    *out_number = strtoull(*text, &end, 10);
    *text = end;
    return errno == 0 && *out_number <= max;
}

bool fc_number_read_port(const char *text, uint16_t *out_port)
{
    const char *end = text;
    uint64_t port;
    if (!fc_number_read(&end, UINT16_MAX, &port) || *end != '\0' || end - text > 5)
        return false;
    *out_port = (uint16_t)port;
    return true;
}
