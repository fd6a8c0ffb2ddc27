/* SIGHUP: reads the config file again and applies what can change while serving. Loop thread. */
#ifndef FC_DAEMON_RELOAD_H
#define FC_DAEMON_RELOAD_H

#include "daemon/options.h"
#include "daemon/service.h"
#include "daemon/transport.h"

/* What of the options the service takes over while running. */
fc_service_tunables fc_reload_tunables(const fc_options *options);

/* Parses argv and its config file afresh and takes over into *options, service and transport what the table calls
 * reloadable, all or nothing. Logs each changed option and whether it was applied or needs a restart; a wrong file or a
 * refusing service is logged as an error, returned, and changes nothing. */
fc_status fc_reload(int argc, char **argv, fc_options *options, fc_service *service, fc_transport *transport,
                    fc_reason *out_reason);

/* Takes over what a log_level or default_kernel operation says, until the next reload says what the configuration does.
 * FC_INVALID_ARGUMENT: no such word, or the engine has no such kernel. */
fc_status fc_reload_set(const fc_wire_request *request, fc_options *options, fc_service *service,
                        fc_reason *out_reason);

#endif
