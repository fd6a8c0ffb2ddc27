/* Attention from its definition, row by row, and the yardstick for everybody else's errors. Meant to be read, not to be
 * fast; it must never share a line with the kernels or their segments, whose mistakes it exists to find.
 *
 * All inputs are first copied into dense floats, which hold every element type exactly.
 */
#include "kernels/reference.h"

#include "proto/half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Without OpenMP (the TSan build) rows run one after another. */
#ifdef _OPENMP
#include <omp.h>
#define FOR_ROWS_IN_PARALLEL _Pragma("omp parallel for schedule(dynamic, 16)")
#define FOR_SIMD _Pragma("omp simd")
#define FOR_SIMD_SUM _Pragma("omp simd reduction(+ : sum)")
#else
#define FOR_ROWS_IN_PARALLEL
#define FOR_SIMD
#define FOR_SIMD_SUM
#endif

static int thread_count(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static int thread_index(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static void *allocate(size_t count, size_t bytes)
{
    return calloc(count > 0 ? count : 1, bytes);
}

/* --- elements --------------------------------------------------------------------------------------------------- */

static float load(fc_dtype dtype, const void *base, int64_t index)
{
    const char *at = (const char *)base + index * (int64_t)fc_dtype_bytes(dtype);
    uint16_t half;
    float value;
    if (dtype == FC_F32) {
        memcpy(&value, at, sizeof value);
        return value;
    }
    memcpy(&half, at, sizeof half);
    return dtype == FC_F16 ? fc_f16_to_float(half) : fc_bf16_to_float(half);
}

static float rounded(fc_dtype dtype, float value)
{
    if (dtype == FC_F16)
        return fc_f16_to_float(fc_f16_from_float(value));
    return dtype == FC_BF16 ? fc_bf16_to_float(fc_bf16_from_float(value)) : value;
}

/* One unit in the last place of a value of this size. */
static double unit_in_last_place(fc_dtype dtype, double size)
{
    static const int DIGITS[FC_DTYPE_COUNT] = {[FC_F16] = 11, [FC_BF16] = 8, [FC_F32] = 24};
    static const int LEAST[FC_DTYPE_COUNT] = {[FC_F16] = -24, [FC_BF16] = -133, [FC_F32] = -149};
    int exponent;
    frexp(size, &exponent);
    exponent -= DIGITS[dtype];
    return ldexp(1.0, exponent > LEAST[dtype] ? exponent : LEAST[dtype]);
}

typedef struct extent {
    int64_t batch, heads, tokens, head_dim;
} extent;

static size_t element_count(extent e)
{
    return (size_t)(e.batch * e.heads * e.tokens * e.head_dim);
}

/* A new dense [batch, heads, tokens, head_dim] copy; the caller frees it. NULL: no memory. */
static float *gather(fc_dtype dtype, const void *base, fc_strides strides, extent e)
{
    float *dense = allocate(element_count(e), sizeof *dense);
    float *next = dense;
    if (dense == NULL)
        return NULL;
    for (int64_t row = 0; row < e.batch * e.heads * e.tokens; row++) {
        int64_t b = row / (e.heads * e.tokens), h = row / e.tokens % e.heads, t = row % e.tokens;
        for (int64_t d = 0; d < e.head_dim; d++)
            *next++ = load(dtype, base, b * strides.batch + h * strides.head + t * strides.token + d);
    }
    return dense;
}

/* --- what one row of queries sees ------------------------------------------------------------------------------- */

/* The dense inputs, and one row of scores a thread. */
typedef struct inputs {
    const fc_problem *problem;
    float *q, *k, *v;
    double *scores; /* [threads, kv_len] */
} inputs;

/* One query of one head of one batch entry. */
typedef struct row {
    const fc_problem *problem;
    const float *q, *k, *v; /* [head_dim], [kv_len, head_dim] twice */
    double *scores;
    int64_t query, kv_len;
} row;

static void inputs_fini(inputs *in)
{
    free(in->scores);
    free(in->v);
    free(in->k);
    free(in->q);
}

static fc_status inputs_init(inputs *in, const fc_problem *p, const fc_tensors *tensors)
{
    extent q_extent = {p->batch, p->q_heads, p->q_len, p->head_dim};
    extent kv_extent = {p->batch, p->kv_heads, p->kv_len, p->head_dim};
    in->problem = p;
    in->q = gather(p->dtype, tensors->q, tensors->q_strides, q_extent);
    in->k = gather(p->dtype, tensors->k, tensors->k_strides, kv_extent);
    in->v = gather(p->dtype, tensors->v, tensors->v_strides, kv_extent);
    in->scores = allocate((size_t)thread_count() * (size_t)p->kv_len, sizeof *in->scores);
    if (in->q != NULL && in->k != NULL && in->v != NULL && in->scores != NULL)
        return FC_OK;
    inputs_fini(in);
    return FC_NO_MEMORY;
}

static int64_t row_count(const fc_problem *p)
{
    return (int64_t)p->batch * p->q_heads * p->q_len;
}

static row row_at(const inputs *in, int64_t index)
{
    const fc_problem *p = in->problem;
    int64_t q_head = index / p->q_len % p->q_heads;
    int64_t b = index / p->q_len / p->q_heads;
    int64_t kv_head = q_head * p->kv_heads / p->q_heads;
    int64_t kv_first = (b * p->kv_heads + kv_head) * p->kv_len * p->head_dim;
    return (row){.problem = p,
                 .q = in->q + index * p->head_dim,
                 .k = in->k + kv_first,
                 .v = in->v + kv_first,
                 .scores = in->scores + (int64_t)thread_index() * p->kv_len,
                 .query = index % p->q_len,
                 .kv_len = p->kv_lens != NULL ? (int64_t)p->kv_lens[b] : p->kv_len};
}

static bool is_visible(const row *r, int64_t key)
{
    const fc_problem *p = r->problem;
    int64_t position = p->causal == FC_CAUSAL_TOP_LEFT ? r->query : r->query + r->kv_len - p->q_len;
    if (p->causal != FC_CAUSAL_NONE && key > position)
        return false;
    if (p->window_left >= 0 && position - key > p->window_left)
        return false;
    return p->window_right < 0 || key - position <= p->window_right;
}

/* --- double precision ------------------------------------------------------------------------------------------- */

static double score_f64(const row *r, int64_t key)
{
    const float *q = r->q, *k = r->k + key * r->problem->head_dim;
    double sum = 0;
    FOR_SIMD_SUM
    for (int32_t d = 0; d < r->problem->head_dim; d++)
        sum += (double)q[d] * (double)k[d];
    double score = (double)r->problem->scale * sum;
    double softcap = (double)r->problem->softcap;
    return softcap > 0 ? softcap * tanh(score / softcap) : score;
}

static void run_row_f64(const row *r, double *out, double *out_lse)
{
    int32_t head_dim = r->problem->head_dim;
    double largest = -INFINITY, total = 0;
    memset(out, 0, (size_t)head_dim * sizeof *out);
    for (int64_t key = 0; key < r->kv_len; key++) {
        r->scores[key] = is_visible(r, key) ? score_f64(r, key) : -INFINITY;
        largest = fmax(largest, r->scores[key]);
    }
    *out_lse = -INFINITY;
    if (largest == -INFINITY)
        return;
    for (int64_t key = 0; key < r->kv_len; key++)
        total += r->scores[key] = exp(r->scores[key] - largest);
    for (int64_t key = 0; key < r->kv_len; key++) {
        const float *v = r->v + key * head_dim;
        double p = r->scores[key] / total;
        if (!is_visible(r, key)) /* its V may be NaN */
            continue;
        FOR_SIMD
        for (int32_t d = 0; d < head_dim; d++)
            out[d] += p * (double)v[d];
    }
    *out_lse = largest + log(total);
}

/* --- the plain implementation ----------------------------------------------------------------------------------- */

/* Scores of `count` <= 8 keys from `key` on: each a plain sum from the first element to the last, side by side so that
 * the processor has something to do. */
static void score_keys_f32(const row *r, int64_t key, int count, float *out_scores)
{
    const float *k = r->k + key * r->problem->head_dim;
    float scale = r->problem->scale, softcap = r->problem->softcap;
    int32_t head_dim = r->problem->head_dim;
    for (int i = 0; i < count; i++)
        out_scores[i] = 0;
    for (int32_t d = 0; d < head_dim; d++) {
        for (int i = 0; i < count; i++)
            out_scores[i] += r->q[d] * k[i * head_dim + d];
    }
    for (int i = 0; i < count; i++) {
        out_scores[i] *= scale;
        if (softcap > 0)
            out_scores[i] = softcap * tanhf(out_scores[i] / softcap);
    }
}

static float score_row_f32(const row *r)
{
    float largest = -INFINITY, eight[8];
    for (int64_t key = 0; key < r->kv_len; key += 8) {
        int count = r->kv_len - key < 8 ? (int)(r->kv_len - key) : 8;
        if (count == 8)
            score_keys_f32(r, key, 8, eight); /* the constant lets the compiler unroll */
        else
            score_keys_f32(r, key, count, eight);
        for (int i = 0; i < count; i++) {
            float score = is_visible(r, key + i) ? eight[i] : -INFINITY;
            r->scores[key + i] = (double)score;
            largest = fmaxf(largest, score);
        }
    }
    return largest;
}

static void run_row_f32(const row *r, double *out, double *out_lse)
{
    int32_t head_dim = r->problem->head_dim;
    float largest = score_row_f32(r), total = 0, sums[FC_HEAD_DIM_MAX] = {0};
    *out_lse = -INFINITY;
    for (int64_t key = 0; key < r->kv_len && largest > -INFINITY; key++) {
        float p = expf((float)r->scores[key] - largest);
        total += p;
        r->scores[key] = (double)p;
    }
    for (int64_t key = 0; key < r->kv_len && largest > -INFINITY; key++) {
        const float *v = r->v + key * head_dim;
        float p = rounded(r->problem->dtype, (float)r->scores[key] / total);
        if (!is_visible(r, key))
            continue;
        FOR_SIMD
        for (int32_t d = 0; d < head_dim; d++)
            sums[d] += p * v[d];
    }
    if (largest > -INFINITY)
        *out_lse = (double)(largest + logf(total));
    for (int32_t d = 0; d < head_dim; d++)
        out[d] = (double)rounded(r->problem->dtype, sums[d]);
}

/* --- runs ------------------------------------------------------------------------------------------------------- */

typedef void (*run_row)(const row *r, double *out, double *out_lse);

static void run_rows(const inputs *in, run_row run, double *out_out, double *out_lse)
{
    int64_t rows = row_count(in->problem);
    FOR_ROWS_IN_PARALLEL
    for (int64_t i = 0; i < rows; i++) {
        row r = row_at(in, i);
        run(&r, out_out + i * in->problem->head_dim, out_lse + i);
    }
}

static fc_status run_all(const fc_problem *problem, const fc_tensors *tensors, run_row run, double *out_out,
                         double *out_lse)
{
    inputs in;
    fc_status st = inputs_init(&in, problem, tensors);
    if (st != FC_OK)
        return st;
    run_rows(&in, run, out_out, out_lse);
    inputs_fini(&in);
    return FC_OK;
}

fc_status fc_reference_run(const fc_problem *problem, const fc_tensors *tensors, double *out_out, double *out_lse)
{
    return run_all(problem, tensors, run_row_f64, out_out, out_lse);
}

fc_status fc_reference_plain(const fc_problem *problem, const fc_tensors *tensors, double *out_out, double *out_lse)
{
    return run_all(problem, tensors, run_row_f32, out_out, out_lse);
}

/* --- comparing -------------------------------------------------------------------------------------------------- */

static const fc_reference_error HOPELESS = {.relative_frobenius = INFINITY, .largest_absolute = INFINITY};

fc_reference_error fc_reference_compare(const double *got, const double *want, size_t count)
{
    fc_reference_error error = {0, 0};
    double error_squares = 0, want_squares = 0;
    for (size_t i = 0; i < count; i++) {
        if (isinf(want[i]) && got[i] == want[i])
            continue;
        double difference = fabs(got[i] - want[i]);
        if (!isfinite(difference))
            return HOPELESS;
        error_squares += difference * difference;
        want_squares += want[i] * want[i];
        error.largest_absolute = fmax(error.largest_absolute, difference);
    }
    if (error_squares > 0)
        error.relative_frobenius = want_squares > 0 ? sqrt(error_squares / want_squares) : INFINITY;
    return error;
}

static double largest_finite(const double *values, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        if (isfinite(values[i]))
            largest = fmax(largest, fabs(values[i]));
    }
    return largest;
}

/* The limits of fc_reference_verify() for one tensor of `dtype`, from the worst that plain erred. */
static fc_reference_error limit_from(fc_reference_error plain, fc_dtype dtype, const double *want, size_t count)
{
    double unit = unit_in_last_place(dtype, largest_finite(want, count));
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += isfinite(want[i]) ? want[i] * want[i] : 0;
    return (fc_reference_error){.relative_frobenius =
                                    2 * plain.relative_frobenius + (squares > 0 ? unit / sqrt(squares) : 0),
                                .largest_absolute = 2 * plain.largest_absolute + unit};
}

static fc_status judge(const char *name, fc_reference_error error, fc_reference_error limit, fc_reason *out_reason)
{
    if (isfinite(error.largest_absolute) && error.largest_absolute <= limit.largest_absolute &&
        error.relative_frobenius <= limit.relative_frobenius)
        return FC_OK;
    return fc_fail(FC_INTERNAL, out_reason, "%s is wrong: relative error %.3g of %.3g allowed, largest %.3g of %.3g",
                   name, error.relative_frobenius, limit.relative_frobenius, error.largest_absolute,
                   limit.largest_absolute);
}

static fc_reference_error worse(fc_reference_error a, fc_reference_error b)
{
    return (fc_reference_error){.relative_frobenius = fmax(a.relative_frobenius, b.relative_frobenius),
                                .largest_absolute = fmax(a.largest_absolute, b.largest_absolute)};
}

/* The orders in which plain may sum a dot product: first to last, last to first, and the latter's every other element
 * before the rest. The definition fixes none, and over a few rows the error of any one of them can be small by luck. */
#define SUM_ORDER_COUNT 3

/* Puts the elements of every row of q or k into the next order; a dot product of both keeps its value. */
static void reorder(float *rows, int64_t count, int32_t head_dim, int order)
{
    float before[FC_HEAD_DIM_MAX];
    for (int64_t i = 0; i < count; i++) {
        float *elements = rows + i * head_dim;
        memcpy(before, elements, (size_t)head_dim * sizeof *elements);
        for (int32_t d = 0; d < head_dim; d++)
            elements[d] = before[order == 1 ? head_dim - 1 - d : 2 * d % head_dim + (2 * d >= head_dim)];
    }
}

/* One block of doubles: three outputs, then three LSEs. */
typedef struct verdict {
    size_t out_count, lse_count;
    double *got, *plain, *want, *got_lse, *plain_lse, *want_lse;
} verdict;

static fc_status verdict_init(verdict *v, const fc_problem *p)
{
    v->lse_count = (size_t)row_count(p);
    v->out_count = v->lse_count * (size_t)p->head_dim;
    v->got = allocate(3 * (v->out_count + v->lse_count), sizeof *v->got);
    if (v->got == NULL)
        return FC_NO_MEMORY;
    v->plain = v->got + v->out_count;
    v->want = v->plain + v->out_count;
    v->got_lse = v->want + v->out_count;
    v->plain_lse = v->got_lse + v->lse_count;
    v->want_lse = v->plain_lse + v->lse_count;
    return FC_OK;
}

static fc_status widen_answer(verdict *v, const fc_problem *p, const void *got_out, fc_strides got_strides,
                              const float *got_lse)
{
    extent e = {p->batch, p->q_heads, p->q_len, p->head_dim};
    float *dense = gather(p->dtype, got_out, got_strides, e);
    if (dense == NULL)
        return FC_NO_MEMORY;
    for (size_t i = 0; i < v->out_count; i++)
        v->got[i] = (double)dense[i];
    for (size_t i = 0; i < v->lse_count && got_lse != NULL; i++)
        v->got_lse[i] = (double)load(FC_F32, got_lse, (int64_t)i);
    free(dense);
    return FC_OK;
}

/* Runs plain in one order after the other until the answer is within what they err. */
static fc_status judge_answer(verdict *v, inputs *in, bool has_lse, fc_reason *out_reason)
{
    const fc_problem *p = in->problem;
    fc_reference_error out_error = fc_reference_compare(v->got, v->want, v->out_count);
    fc_reference_error lse_error = fc_reference_compare(v->got_lse, v->want_lse, v->lse_count);
    fc_reference_error plain_out = {0, 0}, plain_lse = {0, 0};
    fc_status st = FC_INTERNAL;
    for (int order = 0; order < SUM_ORDER_COUNT && st != FC_OK; order++) {
        if (order > 0) {
            reorder(in->q, (int64_t)v->lse_count, p->head_dim, order);
            reorder(in->k, (int64_t)p->batch * p->kv_heads * p->kv_len, p->head_dim, order);
        }
        run_rows(in, run_row_f32, v->plain, v->plain_lse);
        plain_out = worse(plain_out, fc_reference_compare(v->plain, v->want, v->out_count));
        plain_lse = worse(plain_lse, fc_reference_compare(v->plain_lse, v->want_lse, v->lse_count));
        st = judge("out", out_error, limit_from(plain_out, p->dtype, v->want, v->out_count), out_reason);
        if (st == FC_OK && has_lse)
            st = judge("lse", lse_error, limit_from(plain_lse, FC_F32, v->want_lse, v->lse_count), out_reason);
    }
    return st;
}

fc_status fc_reference_verify(const fc_problem *problem, const fc_tensors *tensors, const void *got_out,
                              fc_strides got_strides, const float *got_lse, fc_reason *out_reason)
{
    verdict v;
    inputs in;
    fc_status st = verdict_init(&v, problem);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "no memory to verify with");
    st = inputs_init(&in, problem, tensors);
    if (st != FC_OK)
        goto free_verdict;
    st = widen_answer(&v, problem, got_out, got_strides, got_lse);
    if (st != FC_OK)
        goto free_inputs;
    run_rows(&in, run_row_f64, v.want, v.want_lse);
    st = judge_answer(&v, &in, got_lse != NULL, out_reason);
free_inputs:
    inputs_fini(&in);
free_verdict:
    free(v.got);
    return st;
}
