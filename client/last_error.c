/* flashcore_last_error(), one text a thread. */
#include "client/last_error.h"

#include <stdio.h>

static _Thread_local char last_error[FC_REASON_BYTES];

flashcore_status fc_last_error_set(fc_status status, const fc_reason *reason)
{
    if (status == FC_OK)
        last_error[0] = '\0';
    else
        snprintf(last_error, sizeof last_error, "%s", reason->text[0] != '\0' ? reason->text : fc_status_text(status));
    return (flashcore_status)status;
}

const char *flashcore_last_error(void)
{
    return last_error;
}
