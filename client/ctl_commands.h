/* flashcorectl's commands. Each prints its result to standard output and returns FC_OK, or a status and a reason,
 * having printed nothing of it. One at a time.
 */
#ifndef FC_CLIENT_CTL_COMMANDS_H
#define FC_CLIENT_CTL_COMMANDS_H

#include "client/ctl_options.h"

#define FC_CTL_DECLARE(symbol, name, function, usage, summary, details)                                                \
    fc_status function(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason);
FC_CTL_COMMANDS(FC_CTL_DECLARE)
#undef FC_CTL_DECLARE

/* What a refused call says: the URL, and the server's words. */
fc_status fc_ctl_fail(const fc_ctl_options *options, uint32_t url, flashcore_status status, const char *error,
                      fc_reason *out_reason);

#endif
