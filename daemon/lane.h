/* A lane: one thread that owns one engine lane, pulls launches from the dispatch, runs them and answers.
 *
 * Threads: start, look, give_up and join on the loop thread. The lane ends when the dispatch is stopped.
 */
#ifndef FC_DAEMON_LANE_H
#define FC_DAEMON_LANE_H

#include "daemon/dispatch.h"

/* What all lanes share; borrowed until they are joined. */
typedef struct fc_lane_context {
    const fc_engine_ops *ops;
    fc_engine *engine;
    fc_dispatch *dispatch;
    fc_stats *stats;
    char device_name[FC_DEVICE_BYTES];
    /* Any lane's thread, once a launch that failed so and before its requests are answered: no lane may start another.
     */
    void (*on_device_lost)(void *context);
    /* Likewise, by fc_lane_give_up(): a launch hangs. */
    void (*on_launch_hung)(void *context);
    void *context;
} fc_lane_context;

typedef struct fc_lane fc_lane;

/* Starts the thread and waits until it has its engine lane. FC_NO_MEMORY, FC_INTERNAL, or what the engine says. */
fc_status fc_lane_start(const fc_lane_context *context, uint32_t index, fc_lane **out_lane, fc_reason *out_reason);

typedef struct fc_lane_view {
    uint64_t running_since_ns; /* start of the launch under way; 0: none is, or the lane was given up */
    double multiplications;    /* of that launch */
    uint64_t ran_ns;           /* end of the last launch that went well; 0: none has */
} fc_lane_view;

void fc_lane_look(const fc_lane *lane, fc_lane_view *out_view);

/* Gives up the launch that has been under way since since_ns: logs what it is, calls on_launch_hung, and answers its
 * requests FC_DEVICE_LOST. What they use is abandoned (fc_request_abandon()); should the launch ever return, the lane
 * ends. False: that launch has ended meanwhile, and nothing was done. */
bool fc_lane_give_up(fc_lane *lane, uint64_t since_ns, uint64_t now_ns);

/* Waits for the thread to end, after fc_dispatch_stop(), and frees the lane. NULL is fine. */
void fc_lane_join(fc_lane *lane);

#endif
