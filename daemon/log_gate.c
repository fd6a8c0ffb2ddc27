/* See log_gate.h. */
#include "daemon/log_gate.h"

#include "daemon/clock.h"

void fc_log_gate_init(fc_log_gate *gate, uint32_t lines_per_s)
{
    *gate = (fc_log_gate){.lines_per_s = lines_per_s};
    pthread_mutex_init(&gate->lock, NULL);
}

void fc_log_gate_fini(fc_log_gate *gate)
{
    pthread_mutex_destroy(&gate->lock);
}

bool fc_log_gate_pass(fc_log_gate *gate, uint64_t now_ns, uint64_t *out_left_out)
{
    pthread_mutex_lock(&gate->lock);
    if (gate->line_count == 0 || fc_clock_elapsed_ns(gate->second_ns, now_ns) >= FC_NS_PER_S) {
        gate->second_ns = now_ns;
        gate->line_count = 0;
    }
    bool may_pass = gate->line_count < gate->lines_per_s;
    if (may_pass) {
        gate->line_count++;
        *out_left_out = gate->left_out;
        gate->left_out = 0;
    } else {
        gate->left_out++;
    }
    pthread_mutex_unlock(&gate->lock);
    return may_pass;
}
