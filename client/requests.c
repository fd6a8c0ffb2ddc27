/* The public ways to ask: submit and attend, and the small operations that wait for their answer. */
#include "client/client.h"
#include "client/last_error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void flashcore_request_init(flashcore_request *request)
{
    *request = (flashcore_request){
        .struct_bytes = sizeof *request,
        .window_left = -1,
        .window_right = -1,
        .scale = NAN,
    };
}

static fc_status make_attend(flashcore_client *client, const flashcore_request *given, flashcore_call **out_call,
                             fc_reason *out_reason)
{
    flashcore_request request;
    flashcore_request_init(&request);
    if (client == NULL || given == NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "client or request is NULL");
    if (given->struct_bytes == 0 || given->struct_bytes > sizeof request)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "request->struct_bytes: call flashcore_request_init() first");
    memcpy(&request, given, given->struct_bytes); /* an older caller's struct may be shorter */
    flashcore_call *call;
    fc_status status = fc_call_create(client, FC_OP_ATTEND, &call);
    if (status != FC_OK)
        return fc_fail(status, out_reason, "out of memory");
    call->counts_as_inflight = true;
    status = fc_translate_request(&request, &call->wire.attend, &call->kv_len, &call->sink, out_reason);
    if (status != FC_OK) {
        fc_call_release(call);
        return status;
    }
    *out_call = call;
    return FC_OK;
}

/* Begins the call; when it cannot, releases it and clears *call. */
static fc_status begin(flashcore_call **call, fc_reason *out_reason)
{
    flashcore_call *started = *call; /* a callback may change *call as soon as the call has begun */
    fc_status status = fc_flight_begin(started, !fc_call_is_in_callback(), out_reason);
    if (status != FC_OK) {
        *call = NULL;
        fc_call_release(started);
    }
    return status;
}

flashcore_status flashcore_submit(flashcore_client *client, const flashcore_request *request,
                                  flashcore_callback callback, void *context, flashcore_call **out_call)
{
    fc_reason reason = {""};
    flashcore_call *call = NULL;
    if (out_call == NULL)
        return fc_last_error_set(fc_fail(FC_INVALID_ARGUMENT, &reason, "out_call is NULL"), &reason);
    *out_call = NULL;
    fc_status status = make_attend(client, request, &call, &reason);
    if (status == FC_OK) {
        call->callback = callback;
        call->callback_context = context;
        *out_call = call;
        status = begin(out_call, &reason);
    }
    return fc_last_error_set(status, &reason);
}

/* Waits for a call that began, or reports why it did not: result, last error, reference. */
static flashcore_status conclude(flashcore_call *call, fc_status status, fc_reason *reason,
                                 flashcore_result *out_result)
{
    flashcore_result result = {.status = (flashcore_status)status};
    if (status == FC_OK) {
        fc_flight_attend(call);
        status = (fc_status)flashcore_wait(call, UINT64_MAX, &result);
        fc_call_release(call);
        fc_fail(status, reason, "%s", result.error);
    } else {
        memcpy(result.error, reason->text, sizeof reason->text);
    }
    if (out_result != NULL)
        *out_result = result;
    return fc_last_error_set(status, reason);
}

static fc_status refuse_in_callback(fc_reason *out_reason)
{
    return fc_call_is_in_callback() ? fc_fail(FC_INVALID_ARGUMENT, out_reason, "waiting inside a callback") : FC_OK;
}

flashcore_status flashcore_attend(flashcore_client *client, const flashcore_request *request,
                                  flashcore_result *out_result)
{
    fc_reason reason = {""};
    flashcore_call *call = NULL;
    fc_status status = refuse_in_callback(&reason);
    if (status == FC_OK)
        status = make_attend(client, request, &call, &reason);
    if (status == FC_OK) {
        call->is_attended = true;
        status = begin(&call, &reason);
    }
    return conclude(call, status, &reason, out_result);
}

/* One small operation on one URL, waited for. */
static flashcore_status ask(flashcore_client *client, uint32_t url_index, fc_op op, const fc_sink *sink, double *out_us)
{
    fc_reason reason = {""};
    flashcore_call *call = NULL;
    flashcore_result result;
    fc_status status = refuse_in_callback(&reason);
    if (status == FC_OK && client == NULL)
        status = fc_fail(FC_INVALID_ARGUMENT, &reason, "client is NULL");
    if (status == FC_OK && url_index >= client->url_count)
        status = fc_fail(FC_INVALID_ARGUMENT, &reason, "url_index is %u of %u", url_index, client->url_count);
    if (status == FC_OK)
        status = fc_call_create(client, op, &call);
    if (status == FC_OK) {
        call->pinned_url = url_index;
        call->sink = *sink;
        call->is_attended = true;
        status = begin(&call, &reason);
    }
    flashcore_status outcome = conclude(call, status, &reason, &result);
    if (outcome == FLASHCORE_OK && out_us != NULL)
        *out_us = result.client_total_us;
    return outcome;
}

flashcore_status flashcore_ping(flashcore_client *client, uint32_t url_index, double *out_us)
{
    return ask(client, url_index, FC_OP_PING, &(fc_sink){.out = NULL}, out_us);
}

flashcore_status flashcore_hello(flashcore_client *client, uint32_t url_index, flashcore_info *out_info)
{
    flashcore_info info = {0};
    flashcore_status status = ask(client, url_index, FC_OP_HELLO, &(fc_sink){.info = &info}, NULL);
    if (status == FLASHCORE_OK && out_info != NULL)
        *out_info = info;
    return status;
}

flashcore_status flashcore_stats(flashcore_client *client, uint32_t url_index, flashcore_counter_visit visit,
                                 void *context)
{
    fc_reason reason = {""};
    fc_counters *counters = malloc(sizeof *counters);
    if (counters == NULL)
        return fc_last_error_set(FC_NO_MEMORY, &reason);
    flashcore_status status = ask(client, url_index, FC_OP_STATS, &(fc_sink){.counters = counters}, NULL);
    for (uint32_t i = 0; status == FLASHCORE_OK && visit != NULL && i < counters->count; i++)
        visit(context, counters->rows[i].name, counters->rows[i].value);
    free(counters);
    return status;
}
