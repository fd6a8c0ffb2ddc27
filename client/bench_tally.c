/* What a client counts. */
#include "client/bench_tally.h"

#include <string.h>

fc_status fc_tally_init(fc_tally *tally)
{
    *tally = (fc_tally){.wrong = 0};
    if (fc_histogram_init(&tally->latency) != FC_OK || fc_histogram_init(&tally->lag) != FC_OK) {
        fc_tally_fini(tally);
        return FC_NO_MEMORY;
    }
    return FC_OK;
}

void fc_tally_fini(fc_tally *tally)
{
    fc_histogram_fini(&tally->latency);
    fc_histogram_fini(&tally->lag);
}

static bool is_inside(const fc_window *window, uint64_t time_ns)
{
    return time_ns >= window->begin_ns && time_ns < window->end_ns;
}

static uint64_t span(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

static void add_times(fc_tally_times *sums, const fc_sample *sample)
{
    const flashcore_result *result = sample->result;
    sums->wait_us += (double)span(sample->intended_ns, sample->sent_ns) / 1e3;
    sums->client_us += (double)span(sample->intended_ns, sample->done_ns) / 1e3;
    sums->queue_us += result->queue_us;
    sums->copy_in_us += result->copy_in_us;
    sums->kernel_us += result->kernel_us;
    sums->copy_out_us += result->copy_out_us;
    sums->server_us += result->server_total_us;
    sums->batch += result->batch;
}

void fc_tally_add(fc_tally *tally, const fc_window *window, const fc_sample *sample)
{
    const flashcore_result *result = sample->result;
    bool is_due = is_inside(window, sample->intended_ns);
    tally->sent_in_window += is_inside(window, sample->sent_ns);
    tally->due_in_window += is_due;
    if (is_due)
        fc_histogram_record(&tally->lag, span(sample->intended_ns, sample->sent_ns));
    tally->checked += sample->is_checked;
    tally->wrong += sample->is_wrong;
    if (sample->is_wrong && tally->first_wrong[0] == '\0')
        memcpy(tally->first_wrong, result->error, sizeof tally->first_wrong);
    if (result->status != FLASHCORE_OK) {
        if (fc_tally_error_count(tally) == 0)
            memcpy(tally->first_error, result->error, sizeof tally->first_error);
        unsigned status = (unsigned)result->status < FC_TALLY_STATUSES ? (unsigned)result->status : FLASHCORE_BAD_REPLY;
        tally->errors[status]++;
        return;
    }
    tally->answered_in_window += is_inside(window, sample->done_ns);
    tally->late += is_inside(window, sample->done_ns) && sample->is_late;
    tally->last_done_ns = sample->done_ns > tally->last_done_ns ? sample->done_ns : tally->last_done_ns;
    memcpy(tally->kernel, result->kernel, sizeof tally->kernel);
    memcpy(tally->device, result->device, sizeof tally->device);
    if (is_due) {
        fc_histogram_record(&tally->latency, span(sample->intended_ns, sample->done_ns));
        add_times(&tally->sums, sample);
    }
}

void fc_tally_add_unsent(fc_tally *tally, const fc_window *window, uint64_t intended_ns)
{
    tally->due_in_window += is_inside(window, intended_ns);
}

static void merge_text(char *into, const char *from, size_t bytes)
{
    if (into[0] == '\0')
        memcpy(into, from, bytes);
}

void fc_tally_merge(fc_tally *into, const fc_tally *from)
{
    fc_histogram_merge(&into->latency, &from->latency);
    fc_histogram_merge(&into->lag, &from->lag);
    into->sums.wait_us += from->sums.wait_us;
    into->sums.queue_us += from->sums.queue_us;
    into->sums.copy_in_us += from->sums.copy_in_us;
    into->sums.kernel_us += from->sums.kernel_us;
    into->sums.copy_out_us += from->sums.copy_out_us;
    into->sums.server_us += from->sums.server_us;
    into->sums.client_us += from->sums.client_us;
    into->sums.batch += from->sums.batch;
    into->answered_in_window += from->answered_in_window;
    into->sent_in_window += from->sent_in_window;
    into->due_in_window += from->due_in_window;
    into->last_done_ns = from->last_done_ns > into->last_done_ns ? from->last_done_ns : into->last_done_ns;
    into->wrong += from->wrong;
    into->late += from->late;
    into->checked += from->checked;
    if (fc_tally_error_count(into) == 0)
        memcpy(into->first_error, from->first_error, sizeof into->first_error);
    for (int i = 0; i < FC_TALLY_STATUSES; i++)
        into->errors[i] += from->errors[i];
    merge_text(into->first_wrong, from->first_wrong, sizeof into->first_wrong);
    merge_text(into->kernel, from->kernel, sizeof into->kernel);
    merge_text(into->device, from->device, sizeof into->device);
}

uint64_t fc_tally_error_count(const fc_tally *tally)
{
    uint64_t count = 0;
    for (int i = 0; i < FC_TALLY_STATUSES; i++)
        count += tally->errors[i];
    return count;
}

double fc_tally_rate(const fc_tally *tally, const fc_window *window)
{
    uint64_t count = tally->answered_in_window;
    uint64_t end_ns = window->end_ns;
    if (count == 0 && tally->latency.count > 0) {
        count = tally->latency.count;
        end_ns = tally->last_done_ns;
    }
    return end_ns > window->begin_ns ? (double)count * 1e9 / (double)(end_ns - window->begin_ns) : 0;
}

bool fc_tally_missed_schedule(const fc_tally *tally, uint64_t client_count)
{
    uint64_t slack = tally->due_in_window / 100;
    if (slack < client_count)
        slack = client_count;
    return tally->sent_in_window + slack < tally->due_in_window;
}
