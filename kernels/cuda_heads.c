/* See cuda_heads.h. */
#include "kernels/cuda_heads.h"

#include "kernels/cuda_layout.h"

#include <string.h>

size_t fc_cuda_heads_bytes(uint32_t segments_max)
{
    return (size_t)FC_CUDA_HEADS_SHORT * FC_CUDA_HEAD_SHORT_BYTES +
           fc_cuda_layout_head_bytes(segments_max, FC_DESCRIPTOR_BYTES_MAX);
}

void fc_cuda_heads_init(fc_cuda_heads *heads, uint32_t segments_max, char *pinned, char *d_copy)
{
    *heads = (fc_cuda_heads){.pinned = pinned, .d_copy = d_copy};
    for (size_t i = 0; i <= FC_CUDA_HEADS_SHORT; i++) {
        heads->heads[i].offset = i * FC_CUDA_HEAD_SHORT_BYTES;
        heads->heads[i].room_bytes = FC_CUDA_HEAD_SHORT_BYTES;
    }
    heads->heads[FC_CUDA_HEADS_SHORT].room_bytes = fc_cuda_layout_head_bytes(segments_max, FC_DESCRIPTOR_BYTES_MAX);
}

/* Descriptors follow from segments and plan. */
static bool is_of(const fc_cuda_heads *heads, const fc_cuda_head *head, const fc_launch *launch)
{
    const fc_plan *was = &head->launch.plan, *is = &launch->plan;
    return head->is_on_device && head->launch.segment_count == launch->segment_count && was->kernel == is->kernel &&
           was->variant == is->variant && was->dtype == is->dtype && was->head_dim == is->head_dim &&
           was->q_tile_rows == is->q_tile_rows && was->descriptor_bytes == is->descriptor_bytes &&
           memcmp(heads->pinned + head->offset, launch->segments, (size_t)launch->segment_count * sizeof(fc_segment)) ==
               0;
}

/* Where the launch's head may be: among the short ones, or in the long one's place. */
static fc_cuda_head *first_of(fc_cuda_heads *heads, size_t size_bytes, int *out_count)
{
    bool is_short = size_bytes <= FC_CUDA_HEAD_SHORT_BYTES;
    *out_count = is_short ? FC_CUDA_HEADS_SHORT : 1;
    return &heads->heads[is_short ? 0 : FC_CUDA_HEADS_SHORT];
}

/* The launch's, *out_is_its_own; or the one to be it. */
static fc_cuda_head *choose(fc_cuda_heads *heads, const fc_launch *launch, size_t size_bytes, bool *out_is_its_own)
{
    int count;
    fc_cuda_head *first = first_of(heads, size_bytes, &count), *oldest = first;
    *out_is_its_own = true;
    for (fc_cuda_head *head = first; head < first + count; head++) {
        if (is_of(heads, head, launch))
            return head;
        if (head->used_at < oldest->used_at)
            oldest = head;
    }
    *out_is_its_own = false;
    return oldest;
}

static void place(const fc_cuda_heads *heads, const fc_cuda_head *head, fc_launch *launch)
{
    size_t descriptors = head->offset + fc_cuda_layout_head_bytes(launch->segment_count, 0);
    bool is_described = launch->plan.descriptor_bytes > 0;
    launch->d_segments = (const fc_segment *)(const void *)(heads->d_copy + head->offset);
    launch->descriptors = is_described ? heads->pinned + descriptors : NULL;
    launch->d_descriptors = is_described ? heads->d_copy + descriptors : NULL;
}

static fc_status make(const fc_cuda_heads *heads, fc_cuda_head *head, fc_launch *launch, fc_reason *out_reason)
{
    fc_cuda_describer describer = fc_cuda_describe_find(launch->plan.kernel);
    char *descriptors = heads->pinned + head->offset + fc_cuda_layout_head_bytes(launch->segment_count, 0);
    head->is_on_device = false;
    head->use_count = 0;
    memcpy(heads->pinned + head->offset, launch->segments, (size_t)launch->segment_count * sizeof(fc_segment));
    if (launch->plan.descriptor_bytes > 0 && (describer == NULL || describer(launch, descriptors) != FC_OK))
        return fc_fail(FC_INTERNAL, out_reason, "the driver refused to describe a launch of %s",
                       fc_kernel_name(launch->plan.kernel));
    head->launch = *launch;
    return FC_OK;
}

fc_status fc_cuda_heads_find(fc_cuda_heads *heads, fc_launch *launch, fc_cuda_head **out_head, fc_reason *out_reason)
{
    size_t size_bytes = fc_cuda_layout_head_bytes(launch->segment_count, launch->plan.descriptor_bytes);
    bool is_its_own;
    fc_cuda_head *head = choose(heads, launch, size_bytes, &is_its_own);
    fc_status st = FC_OK;
    place(heads, head, launch);
    if (!is_its_own)
        st = make(heads, head, launch, out_reason);
    head->size_bytes = size_bytes;
    head->use_count++;
    head->used_at = ++heads->launch_count;
    *out_head = head;
    return st;
}

void fc_cuda_heads_forget(fc_cuda_heads *heads)
{
    for (int i = 0; i <= FC_CUDA_HEADS_SHORT; i++)
        heads->heads[i].is_on_device = false;
}
