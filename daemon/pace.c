/* See pace.h. */
#include "daemon/pace.h"

#include "daemon/clock.h"

#include <math.h>

/* Before the first launch: what a small problem takes. */
#define FIRST_REQUEST_NS (1 * FC_NS_PER_MS)
/* Launches count fully until there are both so many and so much of their time. By time, so that one that was held up by
 * the machine does not outweigh the hundreds around it; by number, so that long ones are not forgotten one by one. */
#define MEMORY_NS (100 * FC_NS_PER_MS)
#define MEMORY_LAUNCHES 8
/* Refused requests are told to come by so much quicker than the lanes go: clients come later than told (the library by
 * up to half), some not at all, and a lane must not wait for them. */
#define HASTE 0.8

void fc_pace_init(fc_pace *pace)
{
    *pace = (fc_pace){.requests = 1, .launches = 1, .wall_ns = FIRST_REQUEST_NS};
}

/* As TCP smooths round trips. */
static void smooth(fc_pace *pace, double launch_ns)
{
    if (pace->last_ns == 0) {
        pace->launch_ns = launch_ns;
        pace->launch_spread_ns = launch_ns / 2;
        return;
    }
    pace->launch_spread_ns += (fabs(launch_ns - pace->launch_ns) - pace->launch_spread_ns) / 4;
    pace->launch_ns += (launch_ns - pace->launch_ns) / 8;
}

void fc_pace_ran(fc_pace *pace, const fc_pace_launch *launch)
{
    uint64_t launch_ns = fc_clock_elapsed_ns(launch->start_ns, launch->end_ns);
    uint64_t since_last_ns = fc_clock_elapsed_ns(pace->last_ns, launch->end_ns);
    double wall_ns = pace->had_backlog ? (double)since_last_ns : (double)launch_ns / launch->lane_count;
    smooth(pace, (double)launch_ns);
    pace->requests += launch->request_count;
    pace->cost += (double)launch->cost;
    pace->launches += 1;
    pace->wall_ns += wall_ns;
    if (pace->launches >= 2 * MEMORY_LAUNCHES && pace->wall_ns >= 2 * (double)MEMORY_NS) {
        pace->requests /= 2;
        pace->cost /= 2;
        pace->launches /= 2;
        pace->wall_ns /= 2;
    }
    pace->had_backlog = launch->has_backlog;
    pace->last_ns = launch->end_ns > pace->last_ns ? launch->end_ns : pace->last_ns;
}

uint64_t fc_pace_request_ns(const fc_pace *pace)
{
    return (uint64_t)(pace->wall_ns / pace->requests);
}

uint64_t fc_pace_wait_ns(const fc_pace *pace, uint64_t cost)
{
    double wait_ns = pace->cost > 0 ? pace->wall_ns / pace->cost * (double)cost : 0;
    return wait_ns < (double)INT64_MAX ? (uint64_t)wait_ns : INT64_MAX;
}

bool fc_pace_is_in_time(const fc_pace *pace, uint64_t cost_ahead, uint64_t left_ns)
{
    uint64_t run_ns = fc_pace_launch_ns(pace), spare_ns = left_ns / 4;
    uint64_t kept_ns = spare_ns + (run_ns < spare_ns ? run_ns : spare_ns);
    return cost_ahead == 0 || fc_pace_wait_ns(pace, cost_ahead) <= left_ns - kept_ns;
}

uint64_t fc_pace_launch_ns(const fc_pace *pace)
{
    return (uint64_t)(pace->launch_ns + 2 * pace->launch_spread_ns);
}

uint64_t fc_pace_retry_us(const fc_pace *pace, uint64_t *turn_ns, uint32_t peer_count, uint64_t deadline_ns,
                          uint64_t now_ns)
{
    double step_ns = HASTE * (double)fc_pace_request_ns(pace) * peer_count;
    uint64_t last_ns = now_ns + FC_PACE_RETRY_US_MAX * FC_NS_PER_US;
    uint64_t turn = *turn_ns > now_ns ? *turn_ns : now_ns;
    turn = step_ns < (double)(last_ns - now_ns) ? turn + (uint64_t)step_ns : last_ns;
    turn = turn < last_ns ? turn : last_ns;
    if (turn < deadline_ns)
        *turn_ns = turn;
    uint64_t wait_us = (turn - now_ns) / FC_NS_PER_US;
    return wait_us > FC_PACE_RETRY_US_MIN ? wait_us : FC_PACE_RETRY_US_MIN;
}
