/* The drain state machine. */
#include "daemon/drain.h"

static void cut_short(fc_drain *drain, fc_drain_cut cut)
{
    drain->state = FC_DRAIN_OVER;
    drain->cut = cut;
}

/* FC_EXIT_OK: a wish. */
static fc_exit failure_of(fc_drain_cause cause)
{
    switch (cause) {
    case FC_DRAIN_BY_DEVICE_LOST:
        return FC_EXIT_DEVICE_LOST;
    case FC_DRAIN_BY_LAUNCH_HUNG:
        return FC_EXIT_HUNG;
    case FC_DRAIN_BY_PIPES_LEAKED:
        return FC_EXIT_FAILURE;
    default:
        return FC_EXIT_OK;
    }
}

bool fc_drain_ask(fc_drain *drain, fc_drain_cause cause, uint64_t now_ns, uint64_t timeout_ns)
{
    drain->signal_count += cause == FC_DRAIN_BY_SIGNAL;
    if (drain->failure == FC_EXIT_OK)
        drain->failure = failure_of(cause);
    if (drain->state == FC_DRAIN_SERVING) {
        drain->state = FC_DRAIN_FINISHING;
        drain->cause = cause;
        drain->deadline_ns = timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
        return true;
    }
    if (drain->signal_count < 2)
        return false;
    if (drain->state == FC_DRAIN_LINGERING || drain->state == FC_DRAIN_LEAVING)
        drain->state = FC_DRAIN_OVER;
    else if (drain->state != FC_DRAIN_OVER)
        cut_short(drain, FC_DRAIN_CUT_BY_SIGNAL);
    return false;
}

static void linger(fc_drain *drain, bool is_all_told, uint64_t now_ns)
{
    drain->state = drain->is_shut ? FC_DRAIN_LEAVING : FC_DRAIN_LINGERING;
    if (drain->linger_until_ns == 0)
        drain->linger_until_ns = now_ns + FC_DRAIN_LINGER_MAX_NS;
    bool is_quiet = now_ns - drain->quiet_since_ns >= FC_DRAIN_QUIET_NS && is_all_told;
    if (!is_quiet && now_ns < drain->linger_until_ns && now_ns < drain->deadline_ns)
        return;
    drain->state = drain->is_shut ? FC_DRAIN_OVER : FC_DRAIN_LEAVING;
    drain->is_shut = true;
    drain->quiet_since_ns = now_ns;
    drain->linger_until_ns = 0;
}

fc_drain_state fc_drain_step(fc_drain *drain, const fc_drain_view *view, uint64_t now_ns)
{
    if (drain->state == FC_DRAIN_SERVING || drain->state == FC_DRAIN_OVER)
        return drain->state;
    if (drain->arrived_count != view->arrived_count || drain->quiet_since_ns == 0) {
        drain->arrived_count = view->arrived_count;
        drain->quiet_since_ns = now_ns;
    }
    if (view->is_idle && view->is_flushed) {
        linger(drain, view->is_all_told, now_ns);
        return drain->state;
    }
    /* A late request makes it busy again: it is answered `draining`, and that leaves like any other answer. */
    drain->state = view->is_idle ? FC_DRAIN_FLUSHING : FC_DRAIN_FINISHING;
    if (now_ns < drain->deadline_ns)
        return drain->state;
    bool may_hang = drain->failure == FC_EXIT_DEVICE_LOST || drain->failure == FC_EXIT_HUNG;
    if (may_hang && !drain->gives_up && !view->is_idle) {
        drain->gives_up = true;
        drain->deadline_ns = now_ns + FC_DRAIN_FAREWELL_NS;
    } else {
        cut_short(drain, FC_DRAIN_CUT_BY_TIMEOUT);
    }
    return drain->state;
}

fc_exit fc_drain_exit(const fc_drain *drain)
{
    if (drain->failure != FC_EXIT_OK)
        return drain->failure;
    return drain->cut == FC_DRAIN_NOT_CUT ? FC_EXIT_OK : FC_EXIT_CUT_SHORT;
}
