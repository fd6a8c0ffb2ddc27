/* See readiness.h. */
#include "daemon/readiness.h"

#define PERIOD_NS (2 * FC_NS_PER_S)

uint64_t fc_readiness_period_ns(uint64_t timeout_ns)
{
    return timeout_ns / 4 < PERIOD_NS ? timeout_ns / 4 : PERIOD_NS;
}

bool fc_readiness_step(fc_readiness *readiness, const fc_readiness_view *view, uint64_t timeout_ns, uint64_t now_ns)
{
    uint64_t period_ns = fc_readiness_period_ns(timeout_ns);
    if (!view->probe.is_under_way && view->probe.ended_ns != 0)
        readiness->outcome = view->probe;
    if (view->pulse.is_draining || view->probe.is_under_way)
        return false;
    bool is_first = view->pulse.ran_ns == 0 && readiness->asked_ns == 0;
    bool is_quiet = fc_clock_elapsed_ns(view->pulse.ran_ns, now_ns) >= period_ns;
    bool is_doubted = readiness->outcome.ended_ns != 0 && readiness->outcome.status != FC_OK;
    bool is_due = fc_clock_elapsed_ns(readiness->asked_ns, now_ns) >= period_ns;
    if (!is_first && !((is_quiet || is_doubted) && is_due))
        return false;
    readiness->asked_ns = now_ns;
    return true;
}

bool fc_readiness_judge(const fc_readiness *readiness, const fc_readiness_view *view, uint64_t timeout_ns,
                        uint64_t now_ns, fc_reason *out_reason)
{
    const fc_probe_view *outcome = &readiness->outcome;
    uint64_t idle_ns = fc_clock_elapsed_ns(view->pulse.ran_ns, now_ns);
    bool has_failed = outcome->ended_ns != 0 && outcome->status != FC_OK;
    fc_status st = FC_OK;
    if (view->pulse.is_device_lost)
        st = fc_fail(FC_DEVICE_LOST, out_reason, "the device failed; the server is about to restart");
    else if (view->pulse.is_draining)
        st = fc_fail(FC_DRAINING, out_reason, "draining");
    else if (view->pulse.longest_launch_ns >= timeout_ns)
        st = fc_fail(FC_TIMED_OUT, out_reason, "a lane has been at one launch for %.1f s",
                     (double)view->pulse.longest_launch_ns / (double)FC_NS_PER_S);
    else if (has_failed && outcome->status == FC_BAD_REPLY)
        st = fc_fail(FC_INTERNAL, out_reason, "the self-test's answer is wrong");
    /* A launch that ended well after a self-test failed outweighs it; `busy` says that others are being served. */
    else if (has_failed && outcome->status != FC_BUSY && view->pulse.ran_ns < outcome->ended_ns)
        st = fc_fail(FC_INTERNAL, out_reason, "the self-test failed: %s", fc_status_name(outcome->status));
    else if (view->pulse.ran_ns == 0)
        st = fc_fail(FC_BUSY, out_reason, "starting: no attention has finished yet");
    else if (idle_ns >= timeout_ns)
        st = fc_fail(FC_TIMED_OUT, out_reason, "no attention has finished for %.1f s; the self-test %s",
                     (double)idle_ns / (double)FC_NS_PER_S, view->probe.is_under_way ? "waits" : "is refused");
    return st == FC_OK;
}
