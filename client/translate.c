/* Public structs to wire structs and back: see translate.h. */
#include "client/translate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define DIMENSION_MAX 0x7fffffffu

/* --- requests ----------------------------------------------------------------------------------------------------- */

static fc_status translate_tensor(const flashcore_tensor *tensor, const char *name, fc_wire_tensor *out,
                                  fc_reason *out_reason)
{
    if ((unsigned)tensor->dtype >= FC_DTYPE_COUNT)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.dtype: %d is not a flashcore_dtype", name,
                       (int)tensor->dtype);
    size_t bytes = fc_dtype_bytes((fc_dtype)tensor->dtype);
    bool is_empty = false;
    for (int i = 0; i < FC_TENSOR_RANK; i++)
        is_empty = is_empty || tensor->shape[i] == 0;
    for (int i = 0; i < FC_TENSOR_RANK; i++) {
        if (tensor->shape[i] > DIMENSION_MAX)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.shape[%d]: %llu is above 2^31-1", name, i,
                           (unsigned long long)tensor->shape[i]);
        if (!is_empty && __builtin_mul_overflow(bytes, tensor->shape[i], &bytes))
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.shape: the tensor exceeds the address space", name);
        out->shape[i] = tensor->shape[i];
    }
    if (is_empty)
        bytes = 0;
    if (tensor->data == NULL && bytes != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s.data is NULL", name);
    out->dtype = (fc_dtype)tensor->dtype;
    out->rank = FC_TENSOR_RANK;
    out->data = tensor->data;
    out->data_bytes = bytes;
    return FC_OK;
}

static fc_status check_options(const flashcore_request *request, fc_reason *out_reason)
{
    if ((unsigned)request->layout >= FC_LAYOUT_COUNT)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "layout: %d is not a flashcore_layout", (int)request->layout);
    if ((unsigned)request->causal >= FC_CAUSAL_COUNT)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "causal: %d is not a flashcore_causal", (int)request->causal);
    if (request->kernel != NULL && strnlen(request->kernel, FC_NAME_BYTES) >= FC_NAME_BYTES)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kernel: a name has at most %d characters", FC_NAME_BYTES - 1);
    return FC_OK;
}

fc_status fc_translate_request(const flashcore_request *request, fc_wire_attend *out_attend,
                               const uint32_t **out_kv_len, fc_sink *out_sink, fc_reason *out_reason)
{
    *out_attend = (fc_wire_attend){
        .layout = (fc_layout)request->layout,
        .causal = (fc_causal)request->causal,
        .window_left = request->window_left,
        .window_right = request->window_right,
        .has_scale = !isnan(request->scale),
        .scale = isnan(request->scale) ? 0.0f : request->scale,
        .softcap = request->softcap,
        .wants_lse = request->lse != NULL,
        .deadline_us = request->deadline_us,
    };
    fc_status status = check_options(request, out_reason);
    if (status == FC_OK)
        status = translate_tensor(&request->q, "q", &out_attend->q, out_reason);
    if (status == FC_OK)
        status = translate_tensor(&request->k, "k", &out_attend->k, out_reason);
    if (status == FC_OK)
        status = translate_tensor(&request->v, "v", &out_attend->v, out_reason);
    if (status != FC_OK)
        return status;
    if (request->out == NULL && out_attend->q.data_bytes != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "out is NULL");
    if (request->kernel != NULL)
        out_attend->kernel = fc_wire_text_make(request->kernel);
    if (request->kv_len != NULL) {
        out_attend->has_kv_len = true;
        out_attend->kv_len_count = (uint32_t)request->q.shape[0];
    }
    *out_kv_len = request->kv_len;
    *out_sink = (fc_sink){.out = request->out, .lse = request->lse};
    return FC_OK;
}

/* --- replies ------------------------------------------------------------------------------------------------------ */

/* Cuts to fit; control characters become blanks, since these texts end up in terminals and logs. */
static void copy_text(char *to, size_t to_bytes, fc_wire_text from)
{
    size_t length = from.bytes < to_bytes - 1 ? from.bytes : to_bytes - 1;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)from.text[i];
        to[i] = c < 0x20 || c == 0x7f ? ' ' : from.text[i];
    }
    to[length] = '\0';
}

static fc_status bad_reply(flashcore_result *result, const char *why)
{
    snprintf(result->error, sizeof result->error, "%s", why);
    return FC_BAD_REPLY;
}

static bool is_tensor_like(const fc_wire_tensor *tensor, fc_dtype dtype, const uint64_t *shape, uint32_t rank)
{
    if (tensor->dtype != dtype || tensor->rank != rank)
        return false;
    for (uint32_t i = 0; i < rank; i++)
        if (tensor->shape[i] != shape[i])
            return false;
    return true;
}

static void copy_bytes(void *to, const void *from, size_t size_bytes)
{
    if (size_bytes != 0)
        memcpy(to, from, size_bytes);
}

static bool is_placed_like(const fc_wire_tensor *tensor, const fc_wire_place *asked)
{
    return tensor->place.is_set == asked->is_set &&
           (!asked->is_set || (tensor->place.arena == asked->arena && tensor->place.offset == asked->offset));
}

/* From the message, from where it was staged, or it lies where it belongs already. */
static void take_output(void *to, const fc_wire_tensor *tensor, const uint8_t *staged)
{
    if (!tensor->place.is_set)
        copy_bytes(to, tensor->data, tensor->data_bytes);
    else if (staged != NULL)
        copy_bytes(to, staged, tensor->data_bytes);
}

static fc_status read_attend(const fc_wire_reply *reply, const fc_wire_attend *asked, const fc_sink *sink,
                             flashcore_result *result)
{
    const fc_wire_tensor *q = &asked->q;
    bool is_bhsd = asked->layout == FC_BHSD;
    uint64_t lse_shape[FC_LSE_RANK] = {q->shape[0], q->shape[is_bhsd ? 1 : 2], q->shape[is_bhsd ? 2 : 1]};
    if (reply->body != FC_BODY_ATTEND)
        return bad_reply(result, "ok, but without out");
    if (!is_tensor_like(&reply->attend.out, q->dtype, q->shape, FC_TENSOR_RANK) ||
        reply->attend.out.data_bytes != q->data_bytes)
        return bad_reply(result, "out has another dtype or shape than q");
    if (sink->lse != NULL &&
        (!reply->attend.has_lse || !is_tensor_like(&reply->attend.lse, FC_F32, lse_shape, FC_LSE_RANK) ||
         reply->attend.lse.data_bytes != lse_shape[0] * lse_shape[1] * lse_shape[2] * sizeof(float)))
        return bad_reply(result, "lse is missing or is not f32 [batch, q_heads, q_tokens]");
    if (!is_placed_like(&reply->attend.out, &asked->out_at) ||
        (sink->lse != NULL && !is_placed_like(&reply->attend.lse, &asked->lse_at)))
        return bad_reply(result, "out or lse is not where it was asked for");
    take_output(sink->out, &reply->attend.out, sink->staged_out);
    if (sink->lse != NULL)
        take_output(sink->lse, &reply->attend.lse, sink->staged_lse);
    const fc_wire_timing *timing = &reply->attend.timing;
    copy_text(result->kernel, sizeof result->kernel, reply->attend.kernel);
    copy_text(result->device, sizeof result->device, reply->attend.device);
    result->queue_us = timing->queue_us;
    result->copy_in_us = timing->copy_in_us;
    result->kernel_us = timing->kernel_us;
    result->copy_out_us = timing->copy_out_us;
    result->server_total_us = timing->total_us;
    result->batch = timing->batch;
    return FC_OK;
}

static fc_status read_hello(const fc_wire_reply *reply, const fc_sink *sink, flashcore_result *result)
{
    if (reply->body != FC_BODY_HELLO)
        return bad_reply(result, "ok, but not a hello");
    const fc_wire_hello *hello = &reply->hello;
    if (sink->side_path != NULL)
        copy_text(sink->side_path, FC_PATH_BYTES, hello->local);
    flashcore_info *info = sink->info;
    if (info == NULL)
        return FC_OK;
    *info = (flashcore_info){
        .message_bytes_max = hello->limits.message_bytes,
        .tensor_bytes_max = hello->limits.tensor_bytes,
        .tokens_max = hello->limits.tokens,
        .head_dim_max = hello->limits.head_dim,
        .batch_entries_max = hello->limits.batch_entries,
        .queue_requests_max = hello->limits.queue_requests,
        .queue_bytes_max = hello->limits.queue_bytes,
        .inflight_per_peer_max = hello->limits.inflight_per_peer,
        .arena_bytes_max = hello->limits.arena_bytes,
        .arena_bytes_per_peer_max = hello->limits.arena_bytes_per_peer,
        .device_arena_bytes_max = hello->limits.device_arena_bytes,
        .device_arena_bytes_per_peer_max = hello->limits.device_arena_bytes_per_peer,
    };
    copy_text(info->server, sizeof info->server, hello->server);
    copy_text(info->version, sizeof info->version, hello->version);
    copy_text(info->default_kernel, sizeof info->default_kernel, hello->default_kernel);
    copy_text(info->device, sizeof info->device, hello->device);
    for (uint32_t i = 0; i < hello->kernel_count && i < FC_NAME_LIST_MAX; i++)
        copy_text(info->kernels[info->kernel_count++], FC_NAME_BYTES, hello->kernels[i]);
    for (uint32_t i = 0; i < hello->feature_count && i < FC_NAME_LIST_MAX; i++)
        copy_text(info->features[info->feature_count++], FC_NAME_BYTES, hello->features[i]);
    return FC_OK;
}

static fc_status read_stats(const fc_wire_reply *reply, fc_counters *counters, flashcore_result *result)
{
    if (reply->body != FC_BODY_STATS)
        return bad_reply(result, "ok, but without counters");
    counters->count = 0;
    for (uint32_t i = 0; i < reply->stats.counter_count && i < FC_COUNTER_MAX; i++) {
        fc_counter *row = &counters->rows[counters->count++];
        copy_text(row->name, sizeof row->name, reply->stats.counters[i].name);
        row->value = reply->stats.counters[i].value;
    }
    return FC_OK;
}

static fc_status read_arena(const fc_wire_reply *reply, fc_made_arena *made, flashcore_result *result)
{
    if (reply->body != FC_BODY_ARENA)
        return bad_reply(result, "ok, but no arena");
    *made = (fc_made_arena){.id = reply->arena.id,
                            .bytes = reply->arena.bytes,
                            .is_device = reply->arena.is_device,
                            .fd = -1,
                            .lifeline_fd = -1};
    memcpy(made->uuid, reply->arena.uuid, sizeof made->uuid);
    return FC_OK;
}

fc_status fc_translate_reply(const void *bytes, size_t size_bytes, const fc_wire_request *asked, const fc_sink *sink,
                             flashcore_result *result)
{
    fc_wire_reply reply;
    fc_reason reason = {""};
    fc_status status = fc_codec_decode_reply(bytes, size_bytes, &reply, &reason);
    if (status != FC_OK) {
        bad_reply(result, reason.text);
        return status == FC_NO_MEMORY ? status : FC_BAD_REPLY;
    }
    /* A server that could not read the request's id answers its complaint with id 0. */
    if (reply.id != asked->id && !(reply.id == 0 && reply.status != FC_OK))
        return bad_reply(result, "the reply carries another request's id");
    copy_text(result->error, sizeof result->error, reply.error);
    result->retry_after_us = reply.retry_after_us;
    if (reply.status != FC_OK)
        return reply.status;
    switch (asked->op) {
    case FC_OP_ATTEND:
        return read_attend(&reply, &asked->attend, sink, result);
    case FC_OP_HELLO:
        return read_hello(&reply, sink, result);
    case FC_OP_STATS:
        return read_stats(&reply, sink->counters, result);
    case FC_OP_ARENA_CREATE:
        return read_arena(&reply, sink->made, result);
    case FC_OP_PING:
    case FC_OP_CANCEL:
    case FC_OP_ARENA_DESTROY:
    case FC_OP_DRAIN:
    case FC_OP_RELOAD:
    case FC_OP_LOG_LEVEL:
    case FC_OP_DEFAULT_KERNEL:
    case FC_OP_COUNT:
        break;
    }
    return FC_OK;
}
