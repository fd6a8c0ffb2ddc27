/* See refusals.h. */
#include "daemon/refusals.h"

#include "daemon/clock.h"
#include "daemon/log.h"

#include <string.h>

static fc_log_gate cuts = FC_LOG_GATE_INITIALIZER(4); /* the counter has all */
static fc_log_gate accepts = FC_LOG_GATE_INITIALIZER(1);

static const char *why(fc_status status)
{
    switch (status) {
    case FC_UNAUTHORIZED:
        return "neither allow-uid nor allow-gid names it";
    case FC_BUSY:
        return "connections-per-uid";
    default:
        return fc_status_name(status);
    }
}

void fc_refusals_log(fc_log_gate *gate, const fc_peer_identity *who, fc_status status)
{
    uint64_t left_out;
    if (!fc_log_gate_pass(gate, fc_clock_now_ns(), &left_out))
        return;
    fc_log(FC_LOG_WARN, "peer_refused", fc_log_text("why", why(status)),
           fc_log_int("uid", who->is_local ? (int64_t)who->uid : -1),
           fc_log_int("gid", who->is_local ? (int64_t)who->gid : -1), fc_log_uint("since_last", left_out + 1));
}

void fc_refusals_log_cut(uint64_t peer, const char *why_cut)
{
    uint64_t left_out;
    if (fc_log_gate_pass(&cuts, fc_clock_now_ns(), &left_out))
        fc_log(FC_LOG_WARN, "peer_cut", fc_log_uint("peer", peer), fc_log_text("why", why_cut),
               fc_log_uint("since_last", left_out + 1));
}

void fc_refusals_log_accept(int error)
{
    uint64_t left_out;
    if (fc_log_gate_pass(&accepts, fc_clock_now_ns(), &left_out))
        fc_log(FC_LOG_WARN, "accept_failed", fc_log_text("why", strerror(error)),
               fc_log_uint("since_last", left_out + 1));
}
