/* See slow_log.h. */
#include "daemon/slow_log.h"

#include "daemon/clock.h"
#include "daemon/log.h"

#include <inttypes.h>

void fc_slow_log_init(fc_slow_log *log, uint64_t limit_ns)
{
    atomic_init(&log->limit_ns, limit_ns);
    fc_log_gate_init(&log->gate, FC_SLOW_LOG_PER_S);
}

void fc_slow_log_fini(fc_slow_log *log)
{
    fc_log_gate_fini(&log->gate);
}

void fc_slow_log_set_limit(fc_slow_log *log, uint64_t limit_ns)
{
    atomic_store_explicit(&log->limit_ns, limit_ns, memory_order_relaxed);
}

static double us(uint64_t ns)
{
    return (double)ns / (double)FC_NS_PER_US;
}

/* It ran: its parts add up to what it took. */
static void log_run(const fc_request *request, uint64_t now_ns, uint64_t left_out)
{
    char shape[FC_SHAPE_BYTES];
    const fc_wire_timing *t = &request->timing;
    fc_log(FC_LOG_WARN, "slow_request", fc_log_uint("peer", request->item.peer), fc_log_uint("id", request->item.id),
           fc_log_real("total_us", us(fc_clock_elapsed_ns(request->received_ns, now_ns))),
           fc_log_real("queue_us", t->queue_us), fc_log_real("copy_in_us", t->copy_in_us),
           fc_log_real("kernel_us", t->kernel_us), fc_log_real("copy_out_us", t->copy_out_us),
           fc_log_real("reply_us", us(fc_clock_elapsed_ns(request->ran_ns, now_ns))), fc_log_uint("batch", t->batch),
           fc_log_text("kernel", fc_kernel_name(request->item.plan.kernel)),
           fc_log_text("dtype", fc_dtype_name(request->problem.dtype)),
           fc_log_text("shape", fc_request_shape(request, shape)), fc_log_uint("bytes", request->size_bytes),
           fc_log_uint("left_out", left_out));
}

void fc_slow_log_note(fc_slow_log *log, const fc_request *request, uint64_t now_ns)
{
    uint64_t limit_ns = atomic_load_explicit(&log->limit_ns, memory_order_relaxed), left_out = 0;
    uint64_t total_ns = fc_clock_elapsed_ns(request->received_ns, now_ns);
    if (limit_ns == 0 || total_ns < limit_ns || !fc_log_gate_pass(&log->gate, now_ns, &left_out))
        return;
    if (request->ran_ns != 0)
        log_run(request, now_ns, left_out);
    else
        fc_log(FC_LOG_WARN, "slow_request", fc_log_uint("peer", request->item.peer),
               fc_log_uint("id", request->item.id), fc_log_text("op", fc_op_name(request->op)),
               fc_log_text("status", fc_status_name(request->reply_status)), fc_log_real("total_us", us(total_ns)),
               fc_log_uint("left_out", left_out));
}
