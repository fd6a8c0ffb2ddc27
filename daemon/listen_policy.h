/* Who may reach a listener, judged by its URL and the options around it. Pure; any thread. */
#ifndef FC_DAEMON_LISTEN_POLICY_H
#define FC_DAEMON_LISTEN_POLICY_H

#include "daemon/options.h"

bool fc_listen_policy_is_tls(const char *url);

/* Is any listener a tls+tcp:// one? */
bool fc_listen_policy_wants_tls(const fc_options *options);

/* What listens on more than loopback must know its clients: tls+tcp:// with tls-client-ca, or insecure-tcp takes the
 * blame. A name other than localhost counts as more: what it resolves to is not ours to say. And tls+tcp:// needs a
 * certificate and a key. FC_INVALID_ARGUMENT: the reason names the URL and what would be right. */
fc_status fc_listen_policy_check(const fc_options *options, fc_reason *out_reason);

#endif
