/* stats --watch: looks at a server again and again. */
#ifndef FC_CLIENT_CTL_WATCH_H
#define FC_CLIENT_CTL_WATCH_H

#include "client/ctl_options.h"

/* Until options->count looks are done, the key q, or a signal: a terminal shows a screen that is drawn anew, anything
 * else gets a line a look, rates since the look before. A server that does not answer at the first look is an error;
 * later it is said, and tried again. */
fc_status fc_ctl_watch(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason);

#endif
