/* Is an answer right? One lock per input set: it is held while the reference runs, so that two threads that meet a new
 * kernel at once do not both compute it. Known answers are never changed, and are compared outside the lock.
 */
#include "client/bench_verify.h"

#include "kernels/reference.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Kernels times devices behind one set of URLs; a further one is checked against the reference every time. */
#define KNOWN_MAX 16

typedef struct known_answer {
    char kernel[32], device[96];
    void *out;
    float *lse; /* NULL: not asked for */
} known_answer;

typedef struct input_set {
    pthread_mutex_t lock; /* guards the two below */
    size_t known_count;
    known_answer known[KNOWN_MAX];
} input_set;

struct fc_verifier {
    const fc_shape *shape;
    const fc_inputs *inputs;
    fc_problem problem;
    uint64_t reference_count; /* atomic */
    size_t set_count;
    input_set sets[];
};

static fc_problem make_problem(const fc_shape *s)
{
    return (fc_problem){
        .dtype = s->dtype,
        .causal = s->causal,
        .batch = (int32_t)s->batch,
        .q_heads = (int32_t)s->q_heads,
        .kv_heads = (int32_t)s->kv_heads,
        .q_len = (int32_t)s->q_len,
        .kv_len = (int32_t)s->kv_tokens,
        .head_dim = (int32_t)s->head_dim,
        .kv_lens = s->has_kv_lens ? s->kv_lens : NULL,
        .window_left = s->window_left,
        .window_right = s->window_right,
        .scale = isnan(s->scale) ? (float)(1.0 / sqrt((double)s->head_dim)) : s->scale,
        .softcap = s->softcap,
    };
}

fc_status fc_verifier_create(const fc_shape *shape, const fc_inputs *inputs, size_t input_count,
                             fc_verifier **out_verifier, fc_reason *out_reason)
{
    fc_problem problem = make_problem(shape);
    fc_status st = fc_problem_check(&problem, out_reason);
    if (st != FC_OK)
        return st;
    fc_verifier *verifier = calloc(1, sizeof *verifier + input_count * sizeof verifier->sets[0]);
    if (verifier == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    verifier->shape = shape;
    verifier->inputs = inputs;
    verifier->problem = problem;
    verifier->set_count = input_count;
    for (size_t i = 0; i < input_count; i++)
        pthread_mutex_init(&verifier->sets[i].lock, NULL);
    *out_verifier = verifier;
    return FC_OK;
}

void fc_verifier_destroy(fc_verifier *verifier)
{
    if (verifier == NULL)
        return;
    for (size_t i = 0; i < verifier->set_count; i++) {
        for (size_t k = 0; k < verifier->sets[i].known_count; k++) {
            free(verifier->sets[i].known[k].out);
            free(verifier->sets[i].known[k].lse);
        }
        pthread_mutex_destroy(&verifier->sets[i].lock);
    }
    free(verifier);
}

static const known_answer *find_known(const input_set *set, const char *kernel, const char *device)
{
    for (size_t i = 0; i < set->known_count; i++) {
        if (strcmp(set->known[i].kernel, kernel) == 0 && strcmp(set->known[i].device, device) == 0)
            return &set->known[i];
    }
    return NULL;
}

static fc_status check_against_reference(fc_verifier *v, size_t input, const void *out, const float *lse,
                                         fc_reason *out_reason)
{
    const fc_shape *s = v->shape;
    fc_strides q = fc_strides_contiguous(s->layout, s->q_heads, s->q_len, s->head_dim);
    fc_strides kv = fc_strides_contiguous(s->layout, s->kv_heads, s->kv_tokens, s->head_dim);
    const fc_inputs *inputs = &v->inputs[input];
    fc_tensors tensors = {.q = inputs->q,
                          .k = inputs->k,
                          .v = inputs->v,
                          .q_strides = q,
                          .k_strides = kv,
                          .v_strides = kv,
                          .out_strides = q};
    __atomic_fetch_add(&v->reference_count, 1, __ATOMIC_RELAXED);
    return fc_reference_verify(&v->problem, &tensors, out, q, lse, out_reason);
}

/* Keeps a right answer. Without memory for it the next one meets the reference again, no harm done. */
static void remember(const fc_shape *shape, input_set *set, const char *kernel, const char *device, const void *out,
                     const float *lse)
{
    if (set->known_count == KNOWN_MAX)
        return;
    size_t out_bytes = fc_shape_q_bytes(shape), lse_bytes = fc_shape_lse_count(shape) * sizeof *lse;
    known_answer *known = &set->known[set->known_count];
    known->out = malloc(out_bytes + 1);
    known->lse = lse != NULL ? malloc(lse_bytes + 1) : NULL;
    if (known->out == NULL || (lse != NULL && known->lse == NULL)) {
        free(known->out);
        free(known->lse);
        return;
    }
    memcpy(known->out, out, out_bytes);
    if (lse != NULL)
        memcpy(known->lse, lse, lse_bytes);
    snprintf(known->kernel, sizeof known->kernel, "%s", kernel);
    snprintf(known->device, sizeof known->device, "%s", device);
    set->known_count++;
}

static size_t first_difference(const void *a, const void *b, size_t bytes)
{
    const unsigned char *x = a, *y = b;
    size_t i = 0;
    while (i < bytes && x[i] == y[i])
        i++;
    return i;
}

static fc_status compare_bits(const fc_shape *s, const known_answer *known, const void *out, const float *lse,
                              fc_reason *out_reason)
{
    size_t out_bytes = fc_shape_q_bytes(s), lse_bytes = fc_shape_lse_count(s) * sizeof *lse;
    if (memcmp(known->out, out, out_bytes) != 0)
        return fc_fail(FC_INTERNAL, out_reason,
                       "out differs from the verified answer to the same request, first at "
                       "element %zu of %zu (kernel %s)",
                       first_difference(known->out, out, out_bytes) / fc_dtype_bytes(s->dtype), fc_shape_q_count(s),
                       known->kernel);
    if (lse != NULL && known->lse != NULL && memcmp(known->lse, lse, lse_bytes) != 0)
        return fc_fail(FC_INTERNAL, out_reason,
                       "lse differs from the verified answer to the same request, first at "
                       "element %zu of %zu (kernel %s)",
                       first_difference(known->lse, lse, lse_bytes) / sizeof *lse, fc_shape_lse_count(s),
                       known->kernel);
    return FC_OK;
}

fc_status fc_verifier_check(fc_verifier *verifier, size_t input, const char *kernel, const char *device,
                            const void *out, const float *lse, fc_reason *out_reason)
{
    input_set *set = &verifier->sets[input];
    fc_status st = FC_OK;
    pthread_mutex_lock(&set->lock);
    const known_answer *known = find_known(set, kernel, device);
    if (known == NULL) {
        st = check_against_reference(verifier, input, out, lse, out_reason);
        if (st == FC_OK)
            remember(verifier->shape, set, kernel, device, out, lse);
    }
    pthread_mutex_unlock(&set->lock);
    return known != NULL ? compare_bits(verifier->shape, known, out, lse, out_reason) : st;
}

uint64_t fc_verifier_reference_count(fc_verifier *verifier)
{
    return __atomic_load_n(&verifier->reference_count, __ATOMIC_RELAXED);
}
