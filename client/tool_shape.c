/* The attention problem a tool sends. */
#include "client/tool_shape.h"

#include "client/tool_random.h"
#include "proto/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHOICE(symbol, name, note) name "|"
#define FC_DTYPE_WORD CHOICE
const char FC_SHAPE_DTYPES[] =
#include "proto/vocab.def"
    ;
#undef FC_DTYPE_WORD
#define FC_LAYOUT_WORD CHOICE
const char FC_SHAPE_LAYOUTS[] =
#include "proto/vocab.def"
    ;
#undef FC_LAYOUT_WORD
#define FC_CAUSAL_WORD CHOICE
const char FC_SHAPE_CAUSALS[] =
#include "proto/vocab.def"
    ;
#undef FC_CAUSAL_WORD

/* The API's enums and the wire's are the same numbers: both lists are closed. */
_Static_assert((int)FC_F16 == (int)FLASHCORE_F16 && (int)FC_BF16 == (int)FLASHCORE_BF16 &&
                   (int)FC_F32 == (int)FLASHCORE_F32 && FC_DTYPE_COUNT == 3,
               "dtypes");
_Static_assert((int)FC_BSHD == (int)FLASHCORE_BSHD && FC_LAYOUT_COUNT == 2, "layouts");
_Static_assert((int)FC_CAUSAL_TOP_LEFT == (int)FLASHCORE_CAUSAL_TOP_LEFT &&
                   (int)FC_CAUSAL_BOTTOM_RIGHT == (int)FLASHCORE_CAUSAL_BOTTOM_RIGHT && FC_CAUSAL_COUNT == 3,
               "causal modes");

#define TENSOR_BYTES_MAX ((uint64_t)1 << 40)

void fc_shape_options_default(fc_shape_options *out_options)
{
    *out_options = (fc_shape_options){.scale = NAN};
}

static fc_status check_tensor(uint64_t batch, uint64_t heads, uint64_t tokens, uint64_t head_dim, fc_dtype dtype,
                              fc_reason *out_reason)
{
    uint64_t bytes = fc_dtype_bytes(dtype);
    /* Every factor counts as at least one: an empty tensor's strides must not overflow either. */
    if (__builtin_mul_overflow(bytes, batch + (batch == 0), &bytes) ||
        __builtin_mul_overflow(bytes, heads + (heads == 0), &bytes) ||
        __builtin_mul_overflow(bytes, tokens + (tokens == 0), &bytes) ||
        __builtin_mul_overflow(bytes, head_dim + (head_dim == 0), &bytes) || bytes > TENSOR_BYTES_MAX)
        return fc_fail(FC_TOO_LARGE, out_reason, "--shape: a tensor of more than 1 TiB");
    return FC_OK;
}

static uint32_t largest(const fc_arg_ints *ints)
{
    int64_t most = 0;
    for (size_t i = 0; i < ints->count; i++)
        most = ints->items[i] > most ? ints->items[i] : most;
    return (uint32_t)most;
}

fc_status fc_shape_resolve(const fc_shape_options *options, fc_shape *out_shape, fc_reason *out_reason)
{
    const int64_t *dims = options->shape.items;
    fc_shape *s = out_shape;
    *s = (fc_shape){
        .dtype = (fc_dtype)options->dtype,
        .layout = (fc_layout)options->layout,
        .batch = (uint32_t)dims[0],
        .q_heads = (uint32_t)dims[1],
        .kv_heads = options->kv_heads != 0 ? (uint32_t)options->kv_heads : (uint32_t)dims[1],
        .q_len = (uint32_t)dims[2],
        .kv_tokens = options->kv_len.count > 0 ? largest(&options->kv_len) : (uint32_t)dims[2],
        .head_dim = (uint32_t)dims[3],
    };
    fc_status st = fc_shape_resolve_masks(options, s, out_reason);
    if (st == FC_OK)
        st = check_tensor(s->batch, s->q_heads, s->q_len, s->head_dim, s->dtype, out_reason);
    if (st == FC_OK)
        st = check_tensor(s->batch, s->kv_heads, s->kv_tokens, s->head_dim, s->dtype, out_reason);
    return st;
}

static fc_status resolve_kv_lens(const fc_arg_ints *kv_len, fc_shape *s, fc_reason *out_reason)
{
    if (kv_len->count > 1 && kv_len->count != s->batch)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--kv-len: %zu numbers for a batch of %u", kv_len->count,
                       s->batch);
    if (s->batch > FC_ARG_LIST_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--kv-len: works up to a batch of %d", FC_ARG_LIST_MAX);
    for (uint32_t i = 0; i < s->batch; i++) {
        int64_t length = kv_len->items[kv_len->count == 1 ? 0 : i];
        if (length > s->kv_tokens)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--kv-len: %lld, but k has %u tokens", (long long)length,
                           s->kv_tokens);
        s->kv_lens[i] = (uint32_t)length;
        s->has_kv_lens = s->has_kv_lens || s->kv_lens[i] != s->kv_tokens;
    }
    return FC_OK;
}

fc_status fc_shape_resolve_masks(const fc_shape_options *options, fc_shape *shape, fc_reason *out_reason)
{
    shape->causal = (fc_causal)options->causal;
    shape->window_left = options->window.count == 2 ? options->window.items[0] : -1;
    shape->window_right = options->window.count == 2 ? options->window.items[1] : -1;
    shape->scale = (float)options->scale;
    shape->softcap = (float)options->softcap;
    shape->has_kv_lens = false;
    if (shape->kv_heads == 0 ? shape->q_heads != 0 : shape->q_heads % shape->kv_heads != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%u query heads are no multiple of %u K/V heads",
                       shape->q_heads, shape->kv_heads);
    return options->kv_len.count > 0 ? resolve_kv_lens(&options->kv_len, shape, out_reason) : FC_OK;
}

size_t fc_shape_q_count(const fc_shape *s)
{
    return (size_t)s->batch * s->q_heads * s->q_len * s->head_dim;
}

size_t fc_shape_kv_count(const fc_shape *s)
{
    return (size_t)s->batch * s->kv_heads * s->kv_tokens * s->head_dim;
}

size_t fc_shape_lse_count(const fc_shape *s)
{
    return (size_t)s->batch * s->q_heads * s->q_len;
}

size_t fc_shape_q_bytes(const fc_shape *shape)
{
    return fc_shape_q_count(shape) * fc_dtype_bytes(shape->dtype);
}

size_t fc_shape_kv_bytes(const fc_shape *shape)
{
    return fc_shape_kv_count(shape) * fc_dtype_bytes(shape->dtype);
}

void fc_shape_text(const fc_shape *s, char *out, size_t out_bytes)
{
    char kv[64] = "", masks[128] = "";
    size_t used = 0;
    if (s->kv_heads != s->q_heads || s->kv_tokens != s->q_len || s->has_kv_lens)
        snprintf(kv, sizeof kv, ", %u K/V heads x %u keys%s", s->kv_heads, s->kv_tokens,
                 s->has_kv_lens ? " (some unused)" : "");
    if (s->causal != FC_CAUSAL_NONE)
        used += (size_t)snprintf(masks + used, sizeof masks - used, ", causal %s", fc_causal_name(s->causal));
    if (s->window_left >= 0 || s->window_right >= 0)
        used += (size_t)snprintf(masks + used, sizeof masks - used, ", window %lld,%lld", (long long)s->window_left,
                                 (long long)s->window_right);
    if (s->softcap > 0)
        used += (size_t)snprintf(masks + used, sizeof masks - used, ", softcap %g", (double)s->softcap);
    if (s->layout != FC_BHSD)
        snprintf(masks + used, sizeof masks - used, ", %s", fc_layout_name(s->layout));
    snprintf(out, out_bytes, "%u,%u,%u,%u %s%s%s", s->batch, s->q_heads, s->q_len, s->head_dim, fc_dtype_name(s->dtype),
             kv, masks);
}

static void put(fc_dtype dtype, void *data, size_t index, float value)
{
    if (dtype == FC_F32)
        ((float *)data)[index] = value;
    else
        ((uint16_t *)data)[index] = dtype == FC_F16 ? fc_f16_from_float(value) : fc_bf16_from_float(value);
}

static void *make_normals(fc_dtype dtype, size_t count, fc_random *random)
{
    void *data = calloc(count != 0 ? count : 1, fc_dtype_bytes(dtype));
    for (size_t i = 0; data != NULL && i < count; i += 2) {
        double a, b;
        fc_random_normals(random, &a, &b);
        put(dtype, data, i, (float)a);
        if (i + 1 < count)
            put(dtype, data, i + 1, (float)b);
    }
    return data;
}

fc_status fc_inputs_init(const fc_shape *shape, uint64_t seed, uint64_t stream, fc_inputs *out_inputs)
{
    fc_random random = fc_random_make(seed, stream);
    fc_inputs inputs = {NULL, NULL, NULL};
    inputs.q = make_normals(shape->dtype, fc_shape_q_count(shape), &random);
    inputs.k = make_normals(shape->dtype, fc_shape_kv_count(shape), &random);
    inputs.v = make_normals(shape->dtype, fc_shape_kv_count(shape), &random);
    if (inputs.q == NULL || inputs.k == NULL || inputs.v == NULL) {
        fc_inputs_fini(&inputs);
        return FC_NO_MEMORY;
    }
    *out_inputs = inputs;
    return FC_OK;
}

void fc_inputs_fini(fc_inputs *inputs)
{
    free(inputs->q);
    free(inputs->k);
    free(inputs->v);
    *inputs = (fc_inputs){NULL, NULL, NULL};
}

static flashcore_tensor make_tensor(const fc_shape *s, uint32_t heads, uint32_t tokens, const void *data)
{
    bool is_bshd = s->layout == FC_BSHD;
    return (flashcore_tensor){
        .dtype = (flashcore_dtype)s->dtype,
        .shape = {s->batch, is_bshd ? tokens : heads, is_bshd ? heads : tokens, s->head_dim},
        .data = data,
    };
}

void fc_shape_request(const fc_shape *shape, const fc_inputs *inputs, const char *kernel, void *out, float *lse,
                      flashcore_request *out_request)
{
    flashcore_request_init(out_request);
    out_request->q = make_tensor(shape, shape->q_heads, shape->q_len, inputs->q);
    out_request->k = make_tensor(shape, shape->kv_heads, shape->kv_tokens, inputs->k);
    out_request->v = make_tensor(shape, shape->kv_heads, shape->kv_tokens, inputs->v);
    out_request->layout = (flashcore_layout)shape->layout;
    out_request->causal = (flashcore_causal)shape->causal;
    out_request->window_left = shape->window_left;
    out_request->window_right = shape->window_right;
    out_request->scale = shape->scale;
    out_request->softcap = shape->softcap;
    out_request->kv_len = shape->has_kv_lens ? shape->kv_lens : NULL;
    out_request->kernel = kernel;
    out_request->out = out;
    out_request->lse = lse;
}
