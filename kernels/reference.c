/* Attention from its definition, row by row, and the yardstick for everybody else's errors. Meant to be read, not to be
 * fast; it must never share a line with the kernels or their segments, whose mistakes it exists to find.
 *
 * All inputs are first copied into dense floats, which hold every element type exactly.
 */
#include "kernels/reference.h"

#include "kernels/reference_error.h"
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
#define THREAD_COUNT omp_get_max_threads()
#define THREAD_INDEX omp_get_thread_num()
#else
#define FOR_ROWS_IN_PARALLEL
#define FOR_SIMD
#define FOR_SIMD_SUM
#define THREAD_COUNT 1
#define THREAD_INDEX 0
#endif

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
    int64_t row_step; /* every how many rows one is computed */
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
    in->scores = NULL;
    in->q = in->k = in->v = NULL;
}

static fc_status inputs_init(inputs *in, const fc_problem *p, const fc_tensors *tensors, int64_t row_step)
{
    extent q_extent = {p->batch, p->q_heads, p->q_len, p->head_dim};
    extent kv_extent = {p->batch, p->kv_heads, p->kv_len, p->head_dim};
    in->problem = p;
    in->row_step = row_step;
    in->q = gather(p->dtype, tensors->q, tensors->q_strides, q_extent);
    in->k = gather(p->dtype, tensors->k, tensors->k_strides, kv_extent);
    in->v = gather(p->dtype, tensors->v, tensors->v_strides, kv_extent);
    in->scores = allocate((size_t)THREAD_COUNT * (size_t)p->kv_len, sizeof *in->scores);
    if (in->q != NULL && in->k != NULL && in->v != NULL && in->scores != NULL)
        return FC_OK;
    inputs_fini(in);
    return FC_NO_MEMORY;
}

static int64_t row_count(const fc_problem *p)
{
    return (int64_t)p->batch * p->q_heads * p->q_len;
}

/* Rows that are computed, and which one of all is the i-th of them. */
static int64_t sample_count(const inputs *in)
{
    return (row_count(in->problem) + in->row_step - 1) / in->row_step;
}

static int64_t sample_row(const inputs *in, int64_t i)
{
    return row_count(in->problem) - 1 - (sample_count(in) - 1 - i) * in->row_step;
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
                 .scores = in->scores + (int64_t)THREAD_INDEX * p->kv_len,
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

static double scored_f64(const row *r, double dot)
{
    double score = (double)r->problem->scale * dot, softcap = (double)r->problem->softcap;
    return softcap > 0 ? softcap * tanh(score / softcap) : score;
}

static double score_f64(const row *r, int64_t key)
{
    const float *q = r->q, *k = r->k + key * r->problem->head_dim;
    double sum = 0;
    FOR_SIMD_SUM
    for (int32_t d = 0; d < r->problem->head_dim; d++)
        sum += (double)q[d] * (double)k[d];
    return scored_f64(r, sum);
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

static float scored(const row *r, float dot)
{
    float score = r->problem->scale * dot, softcap = r->problem->softcap;
    return softcap > 0 ? softcap * tanhf(score / softcap) : score;
}

/* Scores of `count` <= 8 keys from `key` on: each a plain sum from the first element to the last, side by side so that
 * the processor has something to do. */
static inline void score_some_keys_f32(const row *r, int64_t key, int count, float *out_scores)
{
    const float *k = r->k + key * r->problem->head_dim;
    int32_t head_dim = r->problem->head_dim;
    for (int i = 0; i < count; i++)
        out_scores[i] = 0;
    for (int32_t d = 0; d < head_dim; d++) {
        for (int i = 0; i < count; i++)
            out_scores[i] += r->q[d] * k[i * head_dim + d];
    }
    for (int i = 0; i < count; i++)
        out_scores[i] = scored(r, out_scores[i]);
}

static void score_keys_f32(const row *r, int64_t key, int count, float *out_scores)
{
    if (count == 8)
        score_some_keys_f32(r, key, 8, out_scores); /* the constant lets the compiler unroll */
    else
        score_some_keys_f32(r, key, count, out_scores);
}

/* A dot product as tensor cores sum it: with every eight products, they and the running total lose what lies below one
 * bit past fp32's last of the largest of them, and the new total is cut off at fp32, not rounded. Fasi, Higham,
 * Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores" (2021), for the A100; later ones take more products
 * at once. */
static float tensor_core_dot(const float *q, const float *k, int32_t head_dim)
{
    enum { TERMS = FC_HEAD_DIM_STEP };
    double total = 0;
    for (int32_t d = 0; d < head_dim; d += TERMS) {
        double terms[TERMS + 1] = {total}, largest = fabs(total), sum = 0;
        for (int i = 0; i < TERMS; i++) {
            terms[i + 1] = (double)q[d + i] * (double)k[d + i];
            largest = fmax(largest, fabs(terms[i + 1]));
        }
        if (!isfinite(largest))
            return (float)largest;
        if (largest == 0)
            continue;
        for (int i = 0; i <= TERMS; i++)
            sum += ldexp(trunc(ldexp(terms[i], 24 - ilogb(largest))), ilogb(largest) - 24);
        total = sum == 0 ? 0 : ldexp(trunc(ldexp(sum, 23 - ilogb(sum))), ilogb(sum) - 23);
    }
    return (float)total;
}

static void score_keys_tensor_core(const row *r, int64_t key, int count, float *out_scores)
{
    const float *k = r->k + key * r->problem->head_dim;
    for (int i = 0; i < count; i++)
        out_scores[i] = scored(r, tensor_core_dot(r->q, k + i * r->problem->head_dim, r->problem->head_dim));
}

typedef void (*score_keys)(const row *r, int64_t key, int count, float *out_scores);

static float score_row_f32(const row *r, score_keys score_some)
{
    float largest = -INFINITY, eight[8];
    for (int64_t key = 0; key < r->kv_len; key += 8) {
        int count = r->kv_len - key < 8 ? (int)(r->kv_len - key) : 8;
        score_some(r, key, count, eight);
        for (int i = 0; i < count; i++) {
            float score = is_visible(r, key + i) ? eight[i] : -INFINITY;
            r->scores[key + i] = (double)score;
            largest = fmaxf(largest, score);
        }
    }
    return largest;
}

static void run_row_plain(const row *r, score_keys score, double *out, double *out_lse)
{
    int32_t head_dim = r->problem->head_dim;
    float largest = score_row_f32(r, score), total = 0, sums[FC_HEAD_DIM_MAX] = {0};
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

static void run_row_f32(const row *r, double *out, double *out_lse)
{
    run_row_plain(r, score_keys_f32, out, out_lse);
}

static void run_row_tensor_core(const row *r, double *out, double *out_lse)
{
    run_row_plain(r, score_keys_tensor_core, out, out_lse);
}

/* --- runs ------------------------------------------------------------------------------------------------------- */

typedef void (*run_row)(const row *r, double *out, double *out_lse);

static void run_rows(const inputs *in, run_row run, double *out_out, double *out_lse)
{
    int64_t rows = sample_count(in);
    FOR_ROWS_IN_PARALLEL
    for (int64_t i = 0; i < rows; i++) {
        row r = row_at(in, sample_row(in, i));
        run(&r, out_out + i * in->problem->head_dim, out_lse + i);
    }
}

static fc_status run_all(const fc_problem *problem, const fc_tensors *tensors, run_row run, double *out_out,
                         double *out_lse)
{
    inputs in;
    fc_status st = inputs_init(&in, problem, tensors, 1);
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

/* --- plain's orders, and what its errors come to ---------------------------------------------------------------- */

/* The ways in which plain may sum a dot product: first to last, last to first, the latter's every other element before
 * the rest; and, of halves, as tensor cores do, in three such orders. The definition fixes none, and over a few rows
 * the error of any one of them can be small by luck. */
enum { ORDER_COUNT = 3, SUM_COUNT = 2 * ORDER_COUNT };

static int sum_count(fc_dtype dtype)
{
    return dtype == FC_F32 ? ORDER_COUNT : SUM_COUNT;
}

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

/* --- the truth -------------------------------------------------------------------------------------------------- */

/* One block of doubles: three outputs, then three LSEs. Figures without an answer's error, after each order of plain;
 * orders are tried only when an answer needs them. */
struct fc_reference_truth {
    fc_problem problem;
    uint32_t *kv_lens;
    inputs in;
    size_t out_count, lse_count;
    double *got, *plain, *want, *got_lse, *plain_lse, *want_lse;
    int orders_tried;
    fc_reference_figures out_figures[SUM_COUNT], lse_figures[SUM_COUNT];
};

static fc_status copy_problem(fc_reference_truth *t, const fc_problem *p)
{
    size_t bytes = (size_t)p->batch * sizeof *p->kv_lens;
    t->problem = *p;
    if (p->kv_lens == NULL)
        return FC_OK;
    t->kv_lens = allocate(bytes, 1);
    if (t->kv_lens == NULL)
        return FC_NO_MEMORY;
    memcpy(t->kv_lens, p->kv_lens, bytes);
    t->problem.kv_lens = t->kv_lens;
    return FC_OK;
}

static fc_status allocate_results(fc_reference_truth *t)
{
    t->lse_count = (size_t)sample_count(&t->in);
    t->out_count = t->lse_count * (size_t)t->problem.head_dim;
    t->got = allocate(3 * (t->out_count + t->lse_count), sizeof *t->got);
    if (t->got == NULL)
        return FC_NO_MEMORY;
    t->plain = t->got + t->out_count;
    t->want = t->plain + t->out_count;
    t->got_lse = t->want + t->out_count;
    t->plain_lse = t->got_lse + t->lse_count;
    t->want_lse = t->plain_lse + t->lse_count;
    return FC_OK;
}

fc_status fc_reference_truth_create(const fc_problem *problem, const fc_tensors *tensors, int64_t row_step,
                                    fc_reference_truth **out_truth)
{
    fc_reference_truth *t = allocate(1, sizeof *t);
    if (t == NULL)
        return FC_NO_MEMORY;
    fc_status st = copy_problem(t, problem);
    if (st == FC_OK)
        st = inputs_init(&t->in, &t->problem, tensors, row_step);
    if (st == FC_OK)
        st = allocate_results(t);
    if (st != FC_OK) {
        fc_reference_truth_destroy(t);
        return st;
    }
    run_rows(&t->in, run_row_f64, t->want, t->want_lse);
    *out_truth = t;
    return FC_OK;
}

void fc_reference_truth_destroy(fc_reference_truth *truth)
{
    if (truth == NULL)
        return;
    free(truth->got);
    inputs_fini(&truth->in);
    free(truth->kv_lens);
    free(truth);
}

/* What a plain lse of a row is off by on average over all orders: every sum on the way to a score is rounded, by up to
 * half a unit of its own size, at random (Higham and Mary, "A new approach to probabilistic rounding error analysis",
 * 2019). Of n products with the sum T and the sum of squares Q, taken in a random order, the squares of the sums on the
 * way come to n Q / 6 + n T^2 / 3. */
static double expected_lse_error(const row *r, double lse)
{
    double squares = 0, n = (double)r->problem->head_dim;
    for (int64_t key = 0; key < r->kv_len && isfinite(lse); key++) {
        const float *k = r->k + key * r->problem->head_dim;
        double sum = 0, product_squares = 0;
        if (!is_visible(r, key))
            continue;
        for (int32_t d = 0; d < r->problem->head_dim; d++) {
            double product = (double)r->q[d] * (double)k[d];
            sum += product;
            product_squares += product * product;
        }
        double weight = exp(scored_f64(r, sum) - lse) * (double)r->problem->scale;
        squares += weight * weight * (n * product_squares / 6 + n * sum * sum / 3);
    }
    return 0x1p-24 * sqrt(squares / 3);
}

static fc_reference_error expected_error(const fc_reference_truth *t, double norm)
{
    fc_reference_error error = {0, 0};
    double squares = 0;
    for (int64_t i = 0; i < (int64_t)t->lse_count; i++) {
        row r = row_at(&t->in, sample_row(&t->in, i));
        double expected = expected_lse_error(&r, t->want_lse[i]);
        squares += expected * expected;
        error.largest_absolute = fmax(error.largest_absolute, expected);
    }
    error.relative_frobenius = norm > 0 ? sqrt(squares) / norm : 0;
    return error;
}

/* Plain in its next order of summation; its figures are the worst of all orders so far, and with the last no better
 * than what is to be expected of any. */
static void try_next_order(fc_reference_truth *t)
{
    const fc_problem *p = &t->problem;
    int order = t->orders_tried++;
    fc_reference_figures *out = &t->out_figures[order], *lse = &t->lse_figures[order];
    if (order % ORDER_COUNT > 0) {
        reorder(t->in.q, row_count(p), p->head_dim, order % ORDER_COUNT);
        reorder(t->in.k, (int64_t)p->batch * p->kv_heads * p->kv_len, p->head_dim, order % ORDER_COUNT);
    }
    run_rows(&t->in, order < ORDER_COUNT ? run_row_f32 : run_row_tensor_core, t->plain, t->plain_lse);
    *out = order > 0 ? out[-1] : fc_reference_figures_of(p->dtype, t->want, t->out_count);
    *lse = order > 0 ? lse[-1] : fc_reference_figures_of(FC_F32, t->want_lse, t->lse_count);
    out->plain = fc_reference_worse(out->plain, fc_reference_compare(t->plain, t->want, t->out_count));
    lse->plain = fc_reference_worse(lse->plain, fc_reference_compare(t->plain_lse, t->want_lse, t->lse_count));
    if (t->orders_tried == sum_count(p->dtype))
        lse->plain = fc_reference_worse(lse->plain, expected_error(t, lse->norm));
}

static void widen_answer(fc_reference_truth *t, const void *got_out, fc_strides strides, const float *got_lse)
{
    const fc_problem *p = &t->problem;
    double *next = t->got;
    for (size_t i = 0; i < t->lse_count; i++) {
        int64_t r = sample_row(&t->in, (int64_t)i);
        int64_t b = r / p->q_len / p->q_heads, h = r / p->q_len % p->q_heads, token = r % p->q_len;
        int64_t first = b * strides.batch + h * strides.head + token * strides.token;
        for (int32_t d = 0; d < p->head_dim; d++)
            *next++ = (double)load(p->dtype, got_out, first + d);
        if (got_lse != NULL)
            t->got_lse[i] = (double)load(FC_F32, got_lse, r);
    }
}

fc_status fc_reference_truth_judge(fc_reference_truth *truth, const void *got_out, fc_strides got_strides,
                                   const float *got_lse, fc_reference_figures *out_figures,
                                   fc_reference_figures *out_lse_figures, fc_reason *out_reason)
{
    fc_status st = FC_INTERNAL;
    widen_answer(truth, got_out, got_strides, got_lse);
    fc_reference_error out_error = fc_reference_compare(truth->got, truth->want, truth->out_count);
    fc_reference_error lse_error = {0, 0};
    if (got_lse != NULL)
        lse_error = fc_reference_compare(truth->got_lse, truth->want_lse, truth->lse_count);
    for (int order = 0; order < sum_count(truth->problem.dtype) && st != FC_OK; order++) {
        if (order == truth->orders_tried)
            try_next_order(truth);
        fc_reference_figures out = truth->out_figures[order], lse = truth->lse_figures[order];
        out.error = out_error;
        lse.error = lse_error;
        st = fc_reference_judge("out", &out, out_reason);
        if (st == FC_OK)
            st = fc_reference_judge("lse", &lse, out_reason);
        if (out_figures != NULL)
            *out_figures = out;
        if (out_lse_figures != NULL)
            *out_lse_figures = lse;
    }
    return st;
}

fc_status fc_reference_verify(const fc_problem *problem, const fc_tensors *tensors, const void *got_out,
                              fc_strides got_strides, const float *got_lse, fc_reason *out_reason)
{
    fc_reference_truth *truth = NULL;
    fc_status st = fc_reference_truth_create(problem, tensors, 1, &truth);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "no memory to verify with");
    st = fc_reference_truth_judge(truth, got_out, got_strides, got_lse, NULL, NULL, out_reason);
    fc_reference_truth_destroy(truth);
    return st;
}
