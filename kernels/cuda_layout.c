/* See cuda_layout.h. */
#include "kernels/cuda_layout.h"

#include <string.h>

/* KERNEL_ALIGN_BYTES: what kernels want of bases; rows then follow from strides of FC_HEAD_DIM_STEP elements. */
enum { ALIGN_BYTES = 256, KERNEL_ALIGN_BYTES = 16 };

/* --- sizes ------------------------------------------------------------------------------------------------------ */

size_t fc_cuda_layout_aligned(size_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* The next free place, and moves past it. */
static size_t take(size_t *cursor, size_t bytes)
{
    size_t place = *cursor;
    *cursor += fc_cuda_layout_aligned(bytes);
    return place;
}

size_t fc_cuda_layout_head_bytes(uint32_t segment_count, uint32_t descriptor_bytes)
{
    return fc_cuda_layout_aligned((size_t)segment_count * sizeof(fc_segment)) +
           fc_cuda_layout_aligned((size_t)segment_count * descriptor_bytes);
}

static size_t taken(fc_memory_place place, size_t rows, size_t row_bytes)
{
    return place.kind == FC_MEMORY_DEVICE ? 0 : fc_cuda_layout_aligned(rows * row_bytes);
}

size_t fc_cuda_layout_job_bytes(const fc_problem *problem, const fc_memory_places *places)
{
    static const fc_memory_places HOST = {.q = {.kind = FC_MEMORY_HOST}};
    const fc_memory_places *at = places != NULL ? places : &HOST;
    size_t row_bytes = (size_t)problem->head_dim * fc_dtype_bytes(problem->dtype);
    size_t q_rows = (size_t)problem->batch * (size_t)problem->q_heads * (size_t)problem->q_len;
    size_t kv_rows = (size_t)problem->batch * (size_t)problem->kv_heads * (size_t)problem->kv_len;
    return taken(at->q, q_rows, row_bytes) + taken(at->k, kv_rows, row_bytes) + taken(at->v, kv_rows, row_bytes) +
           taken(at->out, q_rows, row_bytes) + taken(at->lse, q_rows, sizeof(float));
}

/* --- tensors ---------------------------------------------------------------------------------------------------- */

static int64_t row_count(const fc_cuda_tensor *t)
{
    return t->batch * t->heads * t->tokens;
}

size_t fc_cuda_tensor_bytes(const fc_cuda_tensor *tensor)
{
    return (size_t)row_count(tensor) * tensor->row_bytes;
}

static fc_strides packed_strides_in(const fc_cuda_tensor *t, fc_layout layout)
{
    return fc_strides_contiguous(layout, t->heads, t->tokens, (int64_t)(t->row_bytes / t->element_bytes));
}

static bool has_strides(const fc_cuda_tensor *t, fc_strides s)
{
    return (t->batch <= 1 || t->strides.batch == s.batch) && (t->heads <= 1 || t->strides.head == s.head) &&
           (t->tokens <= 1 || t->strides.token == s.token);
}

bool fc_cuda_tensor_is_packed(const fc_cuda_tensor *tensor)
{
    return has_strides(tensor, packed_strides_in(tensor, FC_BHSD)) ||
           has_strides(tensor, packed_strides_in(tensor, FC_BSHD));
}

/* How it lies in the buffers: in its own order where it is packed. */
static fc_strides packed_strides(const fc_cuda_tensor *t)
{
    fc_strides bshd = packed_strides_in(t, FC_BSHD), bhsd = packed_strides_in(t, FC_BHSD);
    return !has_strides(t, bhsd) && has_strides(t, bshd) ? bshd : bhsd;
}

/* Where the row-th row of a tensor lies, in the order of the packed copy. */
static char *row_at(const fc_cuda_tensor *t, int64_t row)
{
    int64_t b = row / (t->heads * t->tokens), h = row / t->tokens % t->heads, token = row % t->tokens;
    int64_t element = b * t->strides.batch + h * t->strides.head + token * t->strides.token;
    return t->base + element * (int64_t)t->element_bytes;
}

void fc_cuda_tensor_pack(const fc_cuda_tensor *tensor, char *packed)
{
    if (fc_cuda_tensor_is_packed(tensor)) {
        if (fc_cuda_tensor_bytes(tensor) > 0)
            memcpy(packed, tensor->base, fc_cuda_tensor_bytes(tensor));
        return;
    }
    for (int64_t row = 0; row < row_count(tensor); row++)
        memcpy(packed + (size_t)row * tensor->row_bytes, row_at(tensor, row), tensor->row_bytes);
}

void fc_cuda_tensor_unpack(const fc_cuda_tensor *tensor, const char *packed)
{
    if (fc_cuda_tensor_is_packed(tensor)) {
        if (fc_cuda_tensor_bytes(tensor) > 0)
            memcpy(tensor->base, packed, fc_cuda_tensor_bytes(tensor));
        return;
    }
    for (int64_t row = 0; row < row_count(tensor); row++)
        memcpy(row_at(tensor, row), packed + (size_t)row * tensor->row_bytes, tensor->row_bytes);
}

static bool is_aligned(const fc_cuda_tensor *t)
{
    return (uintptr_t)t->base % KERNEL_ALIGN_BYTES == 0;
}

/* Strides of dimensions of one do not matter. */
static bool has_kernel_strides(const fc_cuda_tensor *t)
{
    return (t->batch <= 1 || t->strides.batch % FC_HEAD_DIM_STEP == 0) &&
           (t->heads <= 1 || t->strides.head % FC_HEAD_DIM_STEP == 0) &&
           (t->tokens <= 1 || t->strides.token % FC_HEAD_DIM_STEP == 0);
}

static fc_cuda_way way_of(const fc_cuda_tensor *t)
{
    if (t->place.kind == FC_MEMORY_DEVICE)
        return FC_CUDA_RESIDENT;
    return t->place.kind == FC_MEMORY_REGISTERED && fc_cuda_tensor_is_packed(t) ? FC_CUDA_DIRECT : FC_CUDA_STAGED;
}

static fc_cuda_tensor tensor_of(const fc_problem *p, const void *base, fc_strides strides, int32_t heads,
                                int32_t tokens)
{
    size_t element_bytes = fc_dtype_bytes(p->dtype);
    return (fc_cuda_tensor){.base = (char *)base,
                            .strides = strides,
                            .batch = p->batch,
                            .heads = heads,
                            .tokens = tokens,
                            .row_bytes = (size_t)p->head_dim * element_bytes,
                            .element_bytes = element_bytes};
}

/* A tensor of one float a row. */
static fc_cuda_tensor lse_of(const fc_problem *p, float *base)
{
    fc_strides strides = fc_strides_contiguous(FC_BHSD, p->q_heads, p->q_len, 1);
    fc_cuda_tensor lse = tensor_of(p, base, strides, p->q_heads, p->q_len);
    lse.row_bytes = lse.element_bytes = sizeof(float);
    return lse;
}

/* The five tensors of a job, with their ways. */
static fc_cuda_job describe(const fc_engine_job *job)
{
    const fc_problem *p = &job->problem;
    const fc_tensors *t = &job->tensors;
    const fc_memory_places *at = &job->places;
    const fc_memory_place places[FC_CUDA_TENSORS] = {at->q, at->k, at->v, at->out, at->lse};
    fc_cuda_job made = {{
        [FC_CUDA_Q] = tensor_of(p, t->q, t->q_strides, p->q_heads, p->q_len),
        [FC_CUDA_K] = tensor_of(p, t->k, t->k_strides, p->kv_heads, p->kv_len),
        [FC_CUDA_V] = tensor_of(p, t->v, t->v_strides, p->kv_heads, p->kv_len),
        [FC_CUDA_OUT] = tensor_of(p, t->out, t->out_strides, p->q_heads, p->q_len),
        [FC_CUDA_LSE] = lse_of(p, t->lse),
    }};
    for (int i = 0; i < FC_CUDA_TENSORS; i++) {
        made.tensors[i].place = places[i];
        made.tensors[i].way = way_of(&made.tensors[i]);
    }
    if (t->lse == NULL)
        made.tensors[FC_CUDA_LSE].way = FC_CUDA_DROPPED;
    return made;
}

/* --- copies that move several tensors ------------------------------------------------------------------------------
 */

static bool is_before(const fc_cuda_tensor *a, const fc_cuda_tensor *b)
{
    if (a->place.region != b->place.region)
        return (uintptr_t)a->place.region < (uintptr_t)b->place.region;
    return a->base < b->base;
}

/* The direct ones of `count` tensors by their addresses. Returns how many. */
static int sort_direct(fc_cuda_tensor *tensors, int count, fc_cuda_tensor *out_sorted[FC_CUDA_TENSORS])
{
    int found = 0;
    for (int i = 0; i < count; i++) {
        if (tensors[i].way != FC_CUDA_DIRECT)
            continue;
        int at = found++;
        for (; at > 0 && is_before(&tensors[i], out_sorted[at - 1]); at--)
            out_sorted[at] = out_sorted[at - 1];
        out_sorted[at] = &tensors[i];
    }
    return found;
}

/* May `t` travel with a run of run_bytes that begins with `first`? Only where both then lie aligned on the device. The
 * bytes between come along, unless it is outputs that travel. Together they take no more of the buffers than apart. */
static bool joins(const fc_cuda_tensor *first, size_t run_bytes, const fc_cuda_tensor *t, bool is_output)
{
    size_t distance;
    if (t->place.region != first->place.region)
        return false;
    distance = (size_t)(t->base - first->base);
    if (distance % KERNEL_ALIGN_BYTES != 0)
        return false;
    return is_output ? distance == run_bytes : distance <= fc_cuda_layout_aligned(run_bytes);
}

static void place_direct(fc_cuda_tensor *tensors, int count, bool is_output, size_t *cursor)
{
    fc_cuda_tensor *sorted[FC_CUDA_TENSORS];
    int direct = sort_direct(tensors, count, sorted);
    for (int begin = 0, end; begin < direct; begin = end) {
        fc_cuda_tensor *first = sorted[begin];
        size_t run_bytes = fc_cuda_tensor_bytes(first);
        for (end = begin + 1; end < direct && joins(first, run_bytes, sorted[end], is_output); end++) {
            size_t reach = (size_t)(sorted[end]->base - first->base) + fc_cuda_tensor_bytes(sorted[end]);
            run_bytes = reach > run_bytes ? reach : run_bytes;
        }
        size_t offset = take(cursor, run_bytes);
        for (int i = begin; i < end; i++) {
            sorted[i]->offset = offset + (size_t)(sorted[i]->base - first->base);
            sorted[i]->run_bytes = 0;
        }
        first->run_bytes = run_bytes;
    }
}

/* --- the whole launch --------------------------------------------------------------------------------------------- */

static fc_status check_resident(const fc_cuda_job *job, fc_reason *out_reason)
{
    static const char *const NAMES[FC_CUDA_TENSORS] = {"q", "k", "v", "out", "lse"};
    for (int i = 0; i < FC_CUDA_TENSORS; i++) {
        const fc_cuda_tensor *t = &job->tensors[i];
        if (t->way == FC_CUDA_RESIDENT && !(is_aligned(t) && (i == FC_CUDA_LSE || has_kernel_strides(t))))
            return fc_fail(FC_INTERNAL, out_reason, "%s: in device memory, and not aligned to %d bytes", NAMES[i],
                           KERNEL_ALIGN_BYTES);
    }
    return FC_OK;
}

static size_t staged_bytes(const fc_cuda_tensor *tensors, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += tensors[i].way == FC_CUDA_STAGED ? fc_cuda_layout_aligned(fc_cuda_tensor_bytes(&tensors[i])) : 0;
    return bytes;
}

static void place_job(fc_cuda_job *job, size_t *inputs, size_t *outputs, size_t *rest)
{
    for (int i = 0; i < FC_CUDA_TENSORS; i++) {
        fc_cuda_tensor *t = &job->tensors[i];
        if (t->way == FC_CUDA_STAGED)
            t->offset = take(i < FC_CUDA_INPUTS ? inputs : outputs, fc_cuda_tensor_bytes(t));
        else if (t->way == FC_CUDA_DROPPED)
            t->offset = take(rest, fc_cuda_tensor_bytes(t));
    }
    place_direct(job->tensors, FC_CUDA_INPUTS, false, rest);
    place_direct(job->tensors + FC_CUDA_INPUTS, FC_CUDA_TENSORS - FC_CUDA_INPUTS, true, rest);
}

fc_status fc_cuda_layout_make(const fc_engine_job *jobs, uint32_t job_count, size_t head_bytes, fc_cuda_job *out_jobs,
                              fc_cuda_layout *out_layout, fc_reason *out_reason)
{
    size_t input_bytes = 0, output_bytes = 0;
    for (uint32_t i = 0; i < job_count; i++) {
        out_jobs[i] = describe(&jobs[i]);
        fc_status st = check_resident(&out_jobs[i], out_reason);
        if (st != FC_OK)
            return st;
        input_bytes += staged_bytes(out_jobs[i].tensors, FC_CUDA_INPUTS);
        output_bytes += staged_bytes(out_jobs[i].tensors + FC_CUDA_INPUTS, FC_CUDA_TENSORS - FC_CUDA_INPUTS);
    }
    size_t inputs = head_bytes, outputs = inputs + input_bytes, rest = outputs + output_bytes;
    for (uint32_t i = 0; i < job_count; i++)
        place_job(&out_jobs[i], &inputs, &outputs, &rest);
    *out_layout = (fc_cuda_layout){.head_end = head_bytes, .inputs_end = inputs, .outputs_end = outputs, .end = rest};
    return FC_OK;
}

static char *d_place(const fc_cuda_tensor *t, char *d_buffer)
{
    return t->way == FC_CUDA_RESIDENT ? t->base : d_buffer + t->offset;
}

static fc_strides d_strides(const fc_cuda_tensor *t)
{
    return t->way == FC_CUDA_RESIDENT ? t->strides : packed_strides(t);
}

fc_tensors fc_cuda_layout_tensors(const fc_cuda_job *job, char *d_buffer)
{
    const fc_cuda_tensor *t = job->tensors;
    return (fc_tensors){
        .q = d_place(&t[FC_CUDA_Q], d_buffer),
        .k = d_place(&t[FC_CUDA_K], d_buffer),
        .v = d_place(&t[FC_CUDA_V], d_buffer),
        .out = d_place(&t[FC_CUDA_OUT], d_buffer),
        .lse = (float *)(void *)d_place(&t[FC_CUDA_LSE], d_buffer),
        .q_strides = d_strides(&t[FC_CUDA_Q]),
        .k_strides = d_strides(&t[FC_CUDA_K]),
        .v_strides = d_strides(&t[FC_CUDA_V]),
        .out_strides = d_strides(&t[FC_CUDA_OUT]),
    };
}
