/* The attention problem a tool sends: the options that describe it, what they come to, random inputs for it and the
 * request made of both. Plain values, any thread.
 */
#ifndef FC_CLIENT_TOOL_SHAPE_H
#define FC_CLIENT_TOOL_SHAPE_H

#include "client/flashcore.h"
#include "client/tool_args.h"
#include "proto/vocab.h"

/* "f16|bf16|f32|" and so on, from the wire's own lists. */
extern const char FC_SHAPE_DTYPES[], FC_SHAPE_LAYOUTS[], FC_SHAPE_CAUSALS[];

/* What the rows of tool_shape.def fill. Start from fc_shape_options_default(). */
typedef struct fc_shape_options {
    fc_arg_ints shape; /* B,H,S,D */
    uint64_t kv_heads; /* 0: H */
    fc_arg_ints kv_len;
    int dtype, layout, causal;
    fc_arg_ints window;
    double scale; /* NaN: 1/sqrt(head_dim) */
    double softcap;
} fc_shape_options;

void fc_shape_options_default(fc_shape_options *out_options);

/* A problem with everything decided. */
typedef struct fc_shape {
    fc_dtype dtype;
    fc_layout layout;
    fc_causal causal;
    uint32_t batch, q_heads, kv_heads, q_len, kv_tokens, head_dim; /* kv_tokens: length of K and V */
    int64_t window_left, window_right;
    float scale; /* NaN: 1/sqrt(head_dim) */
    float softcap;
    bool has_kv_lens;
    uint32_t kv_lens[FC_ARG_LIST_MAX]; /* [batch] when has_kv_lens */
} fc_shape;

/* The problem of random inputs that the options describe: K and V as long as the largest kv_len, else as q.
 * FC_INVALID_ARGUMENT: names the option at fault; FC_TOO_LARGE: a tensor above 1 TiB. */
fc_status fc_shape_resolve(const fc_shape_options *options, fc_shape *out_shape, fc_reason *out_reason);

/* Takes masks and the like from the options and the sizes from tensors that exist: batch to head_dim, dtype and layout
 * of *shape are set already. */
fc_status fc_shape_resolve_masks(const fc_shape_options *options, fc_shape *shape, fc_reason *out_reason);

size_t fc_shape_q_count(const fc_shape *shape);   /* elements of q, and of out */
size_t fc_shape_kv_count(const fc_shape *shape);  /* elements of k, and of v */
size_t fc_shape_lse_count(const fc_shape *shape); /* batch x q_heads x q_len */
size_t fc_shape_q_bytes(const fc_shape *shape);
size_t fc_shape_kv_bytes(const fc_shape *shape);

/* "1,8,512,64 f16", and whatever differs from the defaults. */
void fc_shape_text(const fc_shape *shape, char *out, size_t out_bytes);

/* Inputs in the caller's memory; data is the shape's dtype, in its layout. */
typedef struct fc_inputs {
    void *q, *k, *v;
} fc_inputs;

/* N(0, 1) in every element, rounded to the dtype: the same for the same seed and stream. FC_NO_MEMORY.
 * The caller ends it with fini, which takes a zeroed one too. */
fc_status fc_inputs_init(const fc_shape *shape, uint64_t seed, uint64_t stream, fc_inputs *out_inputs);
void fc_inputs_fini(fc_inputs *inputs);

/* A request over memory that must outlive it. kernel and lse may be NULL. */
void fc_shape_request(const fc_shape *shape, const fc_inputs *inputs, const char *kernel, void *out, float *lse,
                      flashcore_request *out_request);

#endif
