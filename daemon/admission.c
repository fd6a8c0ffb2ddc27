/* See admission.h. The codec has checked each tensor by itself (shape entries below 2^31, data as long as the shape
 * says); here they are checked against each other and against the limits. */
#include "daemon/admission.h"

#include "daemon/clock.h"
#include "daemon/queue.h"
#include "proto/codec_scan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a request costs beside its work: to be received, launched, answered. */
#define REQUEST_COST 64

typedef struct named_tensor {
    const char *name;
    const fc_wire_tensor *tensor;
} named_tensor;

/* A tensor's sides, whichever layout it has. */
typedef struct sides {
    uint64_t batch, heads, tokens, head_dim;
} sides;

static sides sides_of(const fc_wire_tensor *tensor, fc_layout layout)
{
    int heads_at = layout == FC_BSHD ? 2 : 1;
    return (sides){.batch = tensor->shape[0],
                   .heads = tensor->shape[heads_at],
                   .tokens = tensor->shape[3 - heads_at],
                   .head_dim = tensor->shape[3]};
}

static fc_status check_agreement(const fc_wire_attend *attend, const sides *q, const sides *k, fc_reason *out_reason)
{
    const named_tensor others[] = {{"k", &attend->k}, {"v", &attend->v}};
    for (size_t i = 0; i < 2; i++) {
        const fc_wire_tensor *other = others[i].tensor;
        if (other->dtype != attend->q.dtype)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.dtype: is %s, but q's is %s", others[i].name,
                           fc_dtype_name(other->dtype), fc_dtype_name(attend->q.dtype));
    }
    if (k->batch != q->batch)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "k.shape: batch is %llu, but q's is %llu",
                       (unsigned long long)k->batch, (unsigned long long)q->batch);
    if (k->head_dim != q->head_dim)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "k.shape: head_dim is %llu, but q's is %llu",
                       (unsigned long long)k->head_dim, (unsigned long long)q->head_dim);
    if (memcmp(attend->k.shape, attend->v.shape, sizeof attend->k.shape) != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "v.shape: differs from k's");
    if (attend->has_kv_len && attend->kv_len_count != q->batch)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kv_len: %u entries, but the batch is %llu",
                       attend->kv_len_count, (unsigned long long)q->batch);
    return FC_OK;
}

static fc_status check_limits(const fc_wire_attend *attend, const fc_admission_limits *limits, const sides *q,
                              const sides *k, fc_reason *out_reason)
{
    const named_tensor tensors[] = {{"q", &attend->q}, {"k", &attend->k}, {"v", &attend->v}};
    for (size_t i = 0; i < 3; i++) {
        if (tensors[i].tensor->data_bytes > limits->tensor_bytes)
            return fc_fail(FC_TOO_LARGE, out_reason, "%s.data: %zu bytes; the limit tensor_bytes is %llu",
                           tensors[i].name, tensors[i].tensor->data_bytes, (unsigned long long)limits->tensor_bytes);
    }
    if (q->tokens > limits->tokens)
        return fc_fail(FC_TOO_LARGE, out_reason, "q.shape: %llu tokens; the limit tokens is %llu",
                       (unsigned long long)q->tokens, (unsigned long long)limits->tokens);
    if (k->tokens > limits->tokens)
        return fc_fail(FC_TOO_LARGE, out_reason, "k.shape: %llu tokens; the limit tokens is %llu",
                       (unsigned long long)k->tokens, (unsigned long long)limits->tokens);
    /* Past FC_HEAD_DIM_MAX no setting helps: that is unsupported, and fc_problem_check() says so. */
    if (q->head_dim > limits->head_dim && q->head_dim <= FC_HEAD_DIM_MAX)
        return fc_fail(FC_TOO_LARGE, out_reason, "q.shape: head_dim is %llu; the limit head_dim is %llu",
                       (unsigned long long)q->head_dim, (unsigned long long)limits->head_dim);
    if (q->batch > limits->batch_entries)
        return fc_fail(FC_TOO_LARGE, out_reason, "q.shape: the batch is %llu; the limit batch_entries is %u",
                       (unsigned long long)q->batch, limits->batch_entries);
    return FC_OK;
}

fc_status fc_admission_problem(const fc_wire_attend *attend, const fc_admission_limits *limits, fc_problem *out_problem,
                               fc_reason *out_reason)
{
    const sides q = sides_of(&attend->q, attend->layout);
    const sides k = sides_of(&attend->k, attend->layout);
    fc_status st = check_agreement(attend, &q, &k, out_reason);
    if (st == FC_OK)
        st = check_limits(attend, limits, &q, &k, out_reason);
    if (st != FC_OK)
        return st;
    *out_problem = (fc_problem){
        .dtype = attend->q.dtype,
        .causal = attend->causal,
        .batch = (int32_t)q.batch,
        .q_heads = (int32_t)q.heads,
        .kv_heads = (int32_t)k.heads,
        .q_len = (int32_t)q.tokens,
        .kv_len = (int32_t)k.tokens,
        .head_dim = (int32_t)q.head_dim,
        .window_left = attend->window_left,
        .window_right = attend->window_right,
        .scale = attend->scale,
        .softcap = attend->softcap,
    };
    if (!attend->has_scale)
        out_problem->scale = q.head_dim > 0 ? 1.0f / sqrtf((float)q.head_dim) : 1.0f;
    return FC_OK;
}

void fc_admission_kernel_list(const fc_engine_info *info, char *out_text, size_t text_bytes)
{
    size_t used = (size_t)snprintf(out_text, text_bytes, "auto");
    for (int i = 0; i < FC_KERNEL_COUNT && used < text_bytes; i++) {
        if (info->has_kernel[i])
            used += (size_t)snprintf(out_text + used, text_bytes - used, ", %s", fc_kernel_name((fc_kernel)i));
    }
}

fc_status fc_admission_kernel(fc_wire_text name, fc_kernel default_kernel, const fc_engine_info *info,
                              fc_kernel *out_kernel, fc_reason *out_reason)
{
    fc_kernel kernel = FC_KERNEL_AUTO;
    char names[128];
    if (name.text != NULL && !fc_kernel_from_name(name.text, name.bytes, &kernel)) {
        fc_admission_kernel_list(info, names, sizeof names);
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kernel: unknown name \"%s\"; this server has %s",
                       fc_scan_quote(name.text, name.bytes).text, names);
    }
    if (kernel == FC_KERNEL_AUTO)
        kernel = default_kernel;
    *out_kernel = kernel;
    return FC_OK;
}

uint64_t fc_admission_deadline(uint64_t received_ns, uint64_t deadline_us)
{
    uint64_t wait_ns;
    uint64_t deadline_ns;
    if (deadline_us == 0 || __builtin_mul_overflow(deadline_us, FC_NS_PER_US, &wait_ns) ||
        __builtin_add_overflow(received_ns, wait_ns, &deadline_ns))
        return FC_NEVER_NS;
    return deadline_ns;
}

double fc_admission_multiplications(const fc_problem *problem)
{
    const fc_problem *p = problem;
    return 2.0 * (double)p->batch * p->q_heads * p->q_len * p->head_dim * p->kv_len;
}

uint32_t fc_admission_cost(const fc_problem *problem)
{
    const fc_problem *p = problem;
    double q_elements = (double)p->batch * p->q_heads * p->q_len * p->head_dim;
    double kv_elements = (double)p->batch * p->kv_heads * p->kv_len * p->head_dim;
    double kibs = 2 * (q_elements + kv_elements) * (double)fc_dtype_bytes(p->dtype) / 1024;
    double cost = REQUEST_COST + kibs + fc_admission_multiplications(p) / (1024 * 1024);
    return cost < UINT32_MAX ? (uint32_t)cost : UINT32_MAX;
}
