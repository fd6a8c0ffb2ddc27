/* Who may enter: from a decoded attend and the server's limits to a problem, or to a status and a reason that names the
 * key at fault. Pure functions: no clock, no allocation, any thread.
 */
#ifndef FC_DAEMON_ADMISSION_H
#define FC_DAEMON_ADMISSION_H

#include "kernels/engine.h"
#include "proto/message.h"

typedef struct fc_admission_limits {
    uint64_t tensor_bytes;  /* data of q, of k, of v */
    uint64_t tokens;        /* of q's and k's sequence */
    uint64_t head_dim;      /* at most FC_HEAD_DIM_MAX */
    uint32_t batch_entries; /* of one request */
} fc_admission_limits;

/* The problem the tensors describe, with its scale filled in; kv_lens stays NULL, but the count of kv_len entries is
 * checked. What needs no limits is left to fc_problem_check() (which a plan includes). FC_INVALID_ARGUMENT: the tensors
 * contradict each other. FC_TOO_LARGE: past a limit, which the reason names as hello does. */
fc_status fc_admission_problem(const fc_wire_attend *attend, const fc_admission_limits *limits, fc_problem *out_problem,
                               fc_reason *out_reason);

/* The kernel asked for: absent or "auto" give default_kernel. FC_INVALID_ARGUMENT: no such kernel; the reason lists
 * what this engine has. Whether a kernel can do a problem is left to the plan. */
fc_status fc_admission_kernel(fc_wire_text name, fc_kernel default_kernel, const fc_engine_info *info,
                              fc_kernel *out_kernel, fc_reason *out_reason);

/* When a request received at received_ns is to be given up: FC_NEVER_NS for deadline_us 0 and for what never comes. */
uint64_t fc_admission_deadline(uint64_t received_ns, uint64_t deadline_us);

/* Multiplications of both products, masks not looked at. */
double fc_admission_multiplications(const fc_problem *problem);

/* What a problem costs those who wait, roughly: a KiB to move, or a million multiplications, is one. Never 0. */
uint32_t fc_admission_cost(const fc_problem *problem);

/* The kernels of an engine as "auto, cpu"; cut to fit. */
void fc_admission_kernel_list(const fc_engine_info *info, char *out_text, size_t text_bytes);

#endif
