/* Is a service's configuration one that can be served? Pure. The reasons name the option at fault.
 */
#ifndef FC_DAEMON_SERVICE_CHECK_H
#define FC_DAEMON_SERVICE_CHECK_H

#include "daemon/service.h"

#define FC_SERVICE_LANES_MAX 64

/* FC_INVALID_ARGUMENT. info: the engine's. */
fc_status fc_service_check_tunables(const fc_service_tunables *tunables, const fc_engine_info *info,
                                    fc_reason *out_reason);
fc_status fc_service_check_config(const fc_service_config *config, fc_reason *out_reason);

#endif
