/* What a server says of itself: the body of a reply to `hello`. Pure.
 */
#ifndef FC_DAEMON_HELLO_H
#define FC_DAEMON_HELLO_H

#include "daemon/service.h"

#include "proto/message.h"

/* info: the engine's; config->tunables as they are now. The texts in *out_hello are static or info's, which lives
 * longer. `local` is left empty: it depends on who asks. */
void fc_hello_describe(const fc_service_config *config, const fc_engine_info *info, fc_wire_hello *out_hello);

/* Does the engine have device memory to share, and is some of it to be had? */
bool fc_hello_has_device_arenas(const fc_service_config *config, const fc_engine_info *info);

#endif
