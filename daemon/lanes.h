/* The lanes of a service, and the watch over what they are at.
 *
 * A launch that takes longer than it may is given up. It cannot be stopped: a kernel that hangs keeps its lane's thread
 * in the driver, and may yet write where it was told to, an arena, a reply, whenever it likes. So whoever watches takes
 * its requests over and answers them FC_DEVICE_LOST; nothing the launch knows of is ever freed or used again
 * (fc_request_abandon()); and the process has to end, without joining that lane. Should the launch end after all, its
 * lane finds that it was given up, touches no request, and ends.
 *
 * What a launch may take is the operator's timeout and, on top of it, what its arithmetic would take at a rate that no
 * kernel of the ladder should fall below, on any problem: 10^10 multiplications a second on a GPU, 10^7 on the CPU
 * (lanes.c has where they come from). Without that, a long request within the limits would be a means to end the daemon
 * with.
 *
 * Threads: the loop thread, or what starts and ends the service.
 */
#ifndef FC_DAEMON_LANES_H
#define FC_DAEMON_LANES_H

#include "daemon/lane.h"
#include "daemon/service_check.h"

/* context is set by who starts them; the rest starts as zeroes. */
typedef struct fc_lanes {
    fc_lane_context context;
    bool is_cpu; /* whose rate counts */
    uint32_t count;
    fc_lane *lanes[FC_SERVICE_LANES_MAX];
    uint32_t given_up_count; /* lanes that are no more */
} fc_lanes;

/* Starts that many more. On failure those that started are there, to be joined. */
fc_status fc_lanes_start(fc_lanes *lanes, uint32_t count, fc_reason *out_reason);

/* After fc_dispatch_stop(). Waits for every launch under way, and for ever for one that hangs. */
void fc_lanes_join(fc_lanes *lanes);

/* Fills in what of a pulse is the lanes'. */
void fc_lanes_look(const fc_lanes *lanes, uint64_t now_ns, fc_service_pulse *out_pulse);

/* How long a launch of so many multiplications may take. */
uint64_t fc_lanes_patience_ns(const fc_lanes *lanes, double multiplications, uint64_t timeout_ns);

/* Gives up each launch that has been under way for longer than it may. */
void fc_lanes_give_up_late(fc_lanes *lanes, uint64_t timeout_ns, uint64_t now_ns);

/* Gives up every launch under way. */
void fc_lanes_give_up_all(fc_lanes *lanes, uint64_t now_ns);

#endif
