/* See request.h. */
#include "daemon/request.h"

#include "daemon/clock.h"
#include "daemon/log.h"

#include <assert.h>
#include <stdio.h>

#define FC_STATE_BIT(state) (1u << (state))

typedef struct state_row {
    const char *name;
    fc_stat gauge;
    unsigned next;
} state_row;

static const state_row STATES[FC_REQUEST_STATE_COUNT] = {
#define FC_REQUEST_STATE(symbol, name, gauge, next) [symbol] = {name, gauge, next},
#include "daemon/request_state.def"
#undef FC_REQUEST_STATE
};

const char *fc_request_state_name(fc_request_state state)
{
    return (unsigned)state < FC_REQUEST_STATE_COUNT ? STATES[state].name : "unknown";
}

bool fc_request_state_may_follow(fc_request_state state, fc_request_state next)
{
    return (STATES[state].next & FC_STATE_BIT(next)) != 0;
}

void fc_request_init(fc_request *request, const fc_reply_sink *sink)
{
    *request = (fc_request){.state = FC_REQUEST_DONE, .sink = sink, .reply_fds = {-1, -1}};
}

void fc_request_abandon(fc_request *request)
{
    request->kv_lens = NULL;
    request->placement = (fc_placement){.out = NULL};
    if (request->sink->abandon != NULL)
        request->sink->abandon(request);
}

const char *fc_request_shape(const fc_request *request, char text[FC_SHAPE_BYTES])
{
    const fc_problem *p = &request->problem;
    snprintf(text, FC_SHAPE_BYTES, "B%u Hq%u Hkv%u Sq%u Sk%u D%u", (unsigned)p->batch, (unsigned)p->q_heads,
             (unsigned)p->kv_heads, (unsigned)p->q_len, (unsigned)p->kv_len, (unsigned)p->head_dim);
    return text;
}

void fc_request_set_state(fc_request *request, fc_request_state next)
{
    const state_row *from = &STATES[request->state];
    const state_row *to = &STATES[next];
    assert(fc_request_state_may_follow(request->state, next));
    /* In before out: who reads the gauges meanwhile may see the request twice, never nowhere. */
    if (to->gauge != FC_STAT_COUNT)
        fc_stats_add(request->stats, to->gauge, 1);
    if (from->gauge != FC_STAT_COUNT)
        fc_stats_sub(request->stats, from->gauge, 1);
    request->state = next;
    fc_log(FC_LOG_TRACE, "request", fc_log_uint("peer", request->item.peer), fc_log_uint("id", request->item.id),
           fc_log_text("op", fc_op_name(request->op)), fc_log_text("state", to->name));
}

void fc_request_observe(const fc_request *request, uint64_t now_ns)
{
    fc_stats *stats = request->stats;
    atomic_fetch_add_explicit(&stats->kernel_requests[request->item.plan.kernel], 1, memory_order_relaxed);
    fc_stats_observe(stats, FC_HISTOGRAM_QUEUE, (uint64_t)(request->timing.queue_us * (double)FC_NS_PER_US));
    fc_stats_observe(stats, FC_HISTOGRAM_REPLY, fc_clock_elapsed_ns(request->ran_ns, now_ns));
    fc_stats_observe(stats, FC_HISTOGRAM_TOTAL, fc_clock_elapsed_ns(request->received_ns, now_ns));
}
