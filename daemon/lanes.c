/* See lanes.h. */
#include "daemon/lanes.h"

#include "daemon/clock.h"

/* Estimates: the slowest kernel should be baseline at head_dim 8, some 2 * 10^10 on an L4, which nobody has timed; the
 * portable CPU kernel does about 10^9 on one core. */
#define GPU_MULTIPLICATIONS_PER_S 1e10
#define CPU_MULTIPLICATIONS_PER_S 1e7

fc_status fc_lanes_start(fc_lanes *lanes, uint32_t count, fc_reason *out_reason)
{
    for (uint32_t i = 0; i < count; i++) {
        fc_status st = fc_lane_start(&lanes->context, lanes->count, &lanes->lanes[lanes->count], out_reason);
        if (st != FC_OK)
            return st;
        lanes->count++;
    }
    return FC_OK;
}

void fc_lanes_join(fc_lanes *lanes)
{
    for (uint32_t i = 0; i < lanes->count; i++)
        fc_lane_join(lanes->lanes[i]);
    lanes->count = 0;
}

void fc_lanes_look(const fc_lanes *lanes, uint64_t now_ns, fc_service_pulse *out_pulse)
{
    for (uint32_t i = 0; i < lanes->count; i++) {
        fc_lane_view view;
        fc_lane_look(lanes->lanes[i], &view);
        if (view.ran_ns > out_pulse->ran_ns)
            out_pulse->ran_ns = view.ran_ns;
        uint64_t launch_ns = view.running_since_ns != 0 ? fc_clock_elapsed_ns(view.running_since_ns, now_ns) : 0;
        if (launch_ns > out_pulse->longest_launch_ns)
            out_pulse->longest_launch_ns = launch_ns;
    }
}

uint64_t fc_lanes_patience_ns(const fc_lanes *lanes, double multiplications, uint64_t timeout_ns)
{
    double rate = lanes->is_cpu ? CPU_MULTIPLICATIONS_PER_S : GPU_MULTIPLICATIONS_PER_S;
    double patience_ns = (double)timeout_ns + multiplications / rate * (double)FC_NS_PER_S;
    return patience_ns < (double)INT64_MAX ? (uint64_t)patience_ns : INT64_MAX;
}

static void give_up(fc_lanes *lanes, bool is_timed, uint64_t timeout_ns, uint64_t now_ns)
{
    for (uint32_t i = 0; i < lanes->count; i++) {
        fc_lane_view view;
        fc_lane_look(lanes->lanes[i], &view);
        if (view.running_since_ns == 0)
            continue;
        uint64_t patience_ns = fc_lanes_patience_ns(lanes, view.multiplications, timeout_ns);
        if (is_timed && fc_clock_elapsed_ns(view.running_since_ns, now_ns) <= patience_ns)
            continue;
        lanes->given_up_count += fc_lane_give_up(lanes->lanes[i], view.running_since_ns, now_ns);
    }
}

void fc_lanes_give_up_late(fc_lanes *lanes, uint64_t timeout_ns, uint64_t now_ns)
{
    give_up(lanes, true, timeout_ns, now_ns);
}

void fc_lanes_give_up_all(fc_lanes *lanes, uint64_t now_ns)
{
    give_up(lanes, false, 0, now_ns);
}
