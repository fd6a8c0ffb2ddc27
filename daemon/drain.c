/* The drain state machine. */
#include "daemon/drain.h"

static void cut_short(fc_drain *drain, fc_drain_cut cut)
{
    drain->state = FC_DRAIN_OVER;
    drain->cut = cut;
}

bool fc_drain_ask(fc_drain *drain, fc_drain_cause cause, uint64_t now_ns, uint64_t timeout_ns)
{
    if (cause == FC_DRAIN_BY_SIGNAL)
        drain->signal_count++;
    else
        drain->has_failed = true;
    if (drain->state == FC_DRAIN_SERVING) {
        drain->state = FC_DRAIN_FINISHING;
        drain->cause = cause;
        drain->deadline_ns = timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
        return true;
    }
    if (drain->state != FC_DRAIN_OVER && drain->signal_count >= 2)
        cut_short(drain, FC_DRAIN_CUT_BY_SIGNAL);
    return false;
}

fc_drain_state fc_drain_step(fc_drain *drain, bool is_idle, bool is_flushed, uint64_t now_ns)
{
    if (drain->state == FC_DRAIN_SERVING || drain->state == FC_DRAIN_OVER)
        return drain->state;
    /* A late request may make it busy again: it is answered `draining`, and leaves like any other. */
    drain->state = is_idle ? FC_DRAIN_FLUSHING : FC_DRAIN_FINISHING;
    if (is_idle && is_flushed)
        drain->state = FC_DRAIN_OVER;
    else if (now_ns >= drain->deadline_ns)
        cut_short(drain, FC_DRAIN_CUT_BY_TIMEOUT);
    return drain->state;
}

fc_exit fc_drain_exit(const fc_drain *drain)
{
    if (drain->has_failed)
        return FC_EXIT_FAILURE;
    return drain->cut == FC_DRAIN_NOT_CUT ? FC_EXIT_OK : FC_EXIT_CUT_SHORT;
}
