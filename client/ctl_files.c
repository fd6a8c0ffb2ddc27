/* Q, K and V from .npy files as one problem. */
#include "client/ctl_files.h"

#include <string.h>

static const char *numpy_name(fc_dtype dtype)
{
    return dtype == FC_F16 ? "float16" : "float32";
}

static fc_status check_one(const char *name, const fc_npy_header *h, fc_layout layout, fc_reason *out_reason)
{
    char shape[128];
    fc_npy_shape_text(h->rank, h->shape, shape, sizeof shape);
    if (h->rank != 4)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s: shape %s has %u dimensions, expected 4: %s", name, shape,
                       h->rank,
                       layout == FC_BSHD ? "[batch, tokens, heads, head_dim]" : "[batch, heads, tokens, head_dim]");
    for (uint32_t i = 0; i < 4; i++) {
        if (h->shape[i] > 0x3fffffff)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s: shape %s is too large", name, shape);
    }
    return FC_OK;
}

static fc_status check_like(const char *name, const fc_npy_header *h, const char *like, const fc_npy_header *other,
                            fc_reason *out_reason)
{
    char found[128], expected[128];
    fc_npy_shape_text(h->rank, h->shape, found, sizeof found);
    fc_npy_shape_text(other->rank, other->shape, expected, sizeof expected);
    if (h->dtype != other->dtype)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s is %s, --%s is %s; expected one dtype", name,
                       numpy_name(h->dtype), like, numpy_name(other->dtype));
    if (strcmp(like, "k") == 0 && memcmp(h->shape, other->shape, 4 * sizeof h->shape[0]) != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s has shape %s, expected --%s's %s", name, found, like,
                       expected);
    if (h->shape[0] != other->shape[0] || h->shape[3] != other->shape[3])
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "--%s has shape %s, expected the batch and head_dim of --%s's %s", name, found, like, expected);
    return FC_OK;
}

fc_status fc_ctl_files_shape(const fc_npy_header *q, const fc_npy_header *k, const fc_npy_header *v, fc_layout layout,
                             fc_shape *out_shape, fc_reason *out_reason)
{
    fc_status st = check_one("q", q, layout, out_reason);
    if (st == FC_OK)
        st = check_one("k", k, layout, out_reason);
    if (st == FC_OK)
        st = check_one("v", v, layout, out_reason);
    if (st == FC_OK)
        st = check_like("k", k, "q", q, out_reason);
    if (st == FC_OK)
        st = check_like("v", v, "k", k, out_reason);
    if (st != FC_OK)
        return st;
    int heads = layout == FC_BSHD ? 2 : 1, tokens = layout == FC_BSHD ? 1 : 2;
    *out_shape = (fc_shape){
        .dtype = q->dtype,
        .layout = layout,
        .batch = (uint32_t)q->shape[0],
        .q_heads = (uint32_t)q->shape[heads],
        .kv_heads = (uint32_t)k->shape[heads],
        .q_len = (uint32_t)q->shape[tokens],
        .kv_tokens = (uint32_t)k->shape[tokens],
        .head_dim = (uint32_t)q->shape[3],
    };
    return FC_OK;
}

fc_status fc_ctl_files_load(const fc_ctl_options *options, fc_shape *out_shape, fc_inputs *out_inputs,
                            fc_reason *out_reason)
{
    fc_npy q = {.data = NULL}, k = {.data = NULL}, v = {.data = NULL};
    fc_status st = fc_npy_load(options->q_path, &q, out_reason);
    if (st == FC_OK)
        st = fc_npy_load(options->k_path, &k, out_reason);
    if (st == FC_OK)
        st = fc_npy_load(options->v_path, &v, out_reason);
    fc_inputs inputs = {.q = q.data, .k = k.data, .v = v.data};
    if (st == FC_OK)
        st = fc_ctl_files_shape(&q.header, &k.header, &v.header, (fc_layout)options->shape_options.layout, out_shape,
                                out_reason);
    if (st == FC_OK)
        st = fc_shape_resolve_masks(&options->shape_options, out_shape, out_reason);
    if (st != FC_OK) {
        fc_inputs_fini(&inputs);
        return st;
    }
    *out_inputs = inputs;
    return FC_OK;
}
