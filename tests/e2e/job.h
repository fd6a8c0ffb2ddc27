/* One attention request of a test: random inputs, a poisoned output between guard bands, and the check of its answer
 * against the reference.
 *
 * Keys and values at or past kv_len are NaN. Plain value with heap memory inside: make, use, free. Any one thread at a
 * time.
 */
#ifndef FC_TESTS_E2E_JOB_H
#define FC_TESTS_E2E_JOB_H

#include "client/flashcore.h"
#include "kernels/reference.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FC_JOB_BATCH_MAX 8

/* What to ask for; zeros mean the protocol's defaults. */
typedef struct fc_job_spec {
    const char *name;
    flashcore_dtype dtype;
    flashcore_layout layout;
    flashcore_causal causal;
    uint32_t batch, q_heads, kv_heads, q_len, kv_len, head_dim;
    bool has_window;
    int64_t window_left, window_right;
    bool has_scale;
    float scale, softcap;
    bool has_kv_lens;
    uint32_t kv_lens[FC_JOB_BATCH_MAX];
    float magnitude; /* standard deviation of q and k; 0: 1 */
    bool wants_lse;
    uint32_t seed;
    uint64_t deadline_us;
    const char *kernel;
} fc_job_spec;

typedef struct fc_job {
    fc_job_spec spec;
    flashcore_request request; /* ready to send; out and lse point into this job */
    size_t out_bytes, lse_bytes;
    uint8_t *q, *k, *v;
    uint8_t *out_block, *lse_block; /* guard bands included */
} fc_job;

void fc_job_make(const fc_job_spec *spec, fc_job *out_job);
void fc_job_free(fc_job *job);

/* Another run of the same request: outputs of its own, the inputs stay the first one's, which must live longer. */
void fc_job_share(const fc_job *inputs, fc_job *out_job);

/* The job's request with every tensor elsewhere. put() gives `size` bytes a place and copies what is at `from` there;
 * piece: 0 to 4 for q, k, v, out, lse. What the request writes there is not the job's until it is copied back. */
typedef void *(*fc_job_put)(void *context, int piece, const void *from, size_t size);
flashcore_request fc_job_moved(const fc_job *job, fc_job_put put, void *context);

/* Everything in that arena of host memory, or fails the test. */
flashcore_request fc_job_in_arena(const fc_job *job, flashcore_arena *arena);

/* Poisons the outputs again, for another run. */
void fc_job_poison(fc_job *job);

/* Fails the running test unless out (and lse) are right and the guard bands whole. */
void fc_job_check(const fc_job *job);

/* The same verdict as text: false with the reason. Any thread. */
bool fc_job_is_right(const fc_job *job, fc_reason *out_reason);

/* The same inputs, bit for bit the same answer? */
bool fc_job_same_answer(const fc_job *a, const fc_job *b);

/* A client with these URLs (count of them) and otherwise default options, or fails the test. */
flashcore_client *fc_job_client(const char *const *urls, size_t count);

/* Sends, waits, wants OK and a right answer. */
void fc_job_attend(flashcore_client *client, fc_job *job, flashcore_result *out_result);

/* A small right request goes through at url: the daemon lives and serves. */
void fc_job_expect_service(const char *url);

/* One number of the daemon's stats: what it does not say, or have, leaves *value as it is. */
flashcore_status fc_job_look(flashcore_client *client, const char *name, double *value);

/* The same (0: it has no such), or the test fails, and waiting until it is at least, or at most, that much. The
 * wait asks again and again: what is waited for happens by itself, soon. */
double fc_job_counter(flashcore_client *client, const char *name);
void fc_job_wait_counter(flashcore_client *client, const char *name, double at_least);
void fc_job_wait_counter_down(flashcore_client *client, const char *name, double at_most);

/* Waits for the call's end, releases it, returns its result. */
flashcore_result fc_job_finish(flashcore_call *call);

/* Submits or fails the test. */
flashcore_call *fc_job_submit(flashcore_client *client, fc_job *job);

/* A spec whose one launch keeps a lane of this daemon busy for about that long, found by timing smaller ones. */
fc_job_spec fc_job_long_spec(const char *url, double launch_us);

#endif
