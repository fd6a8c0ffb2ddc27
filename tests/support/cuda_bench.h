/* A lane of the CUDA engine on the fake runtime of tests/fake, and jobs for it whose answers the reference checks. */
#ifndef FC_TESTS_CUDA_BENCH_H
#define FC_TESTS_CUDA_BENCH_H

#include "kernels/engine.h"
#include "tests/fake/fake_cuda.h"

enum { CUDA_OUT_OF_MEMORY = 2, CUDA_ILLEGAL_ADDRESS = 700 };

/* The engine and the fake's controls, once loaded. */
typedef struct cuda_fake {
    const fc_engine_ops *ops;
    fake_cuda_fail_fn break_call;
    fake_cuda_live_fn live;
    fake_cuda_machine_fn machine;
    fake_cuda_reset_fn reset;
    fake_cuda_launches_fn launches;
    fake_cuda_pending_fn pending;
    fake_cuda_copied_fn copied;
    fake_cuda_allocate_fn allocate;
    fake_cuda_release_fn release;
    fake_cuda_holders_fn holders;
} cuda_fake;

/* Loads build/tests/FILE; ends the program where there is none. */
#define CUDA_FAKE "flashcore-cuda-fake.so"
#define CUDA_FAKE_PLAIN "flashcore-cuda-fake-plain.so" /* built for sm_89 and compute_89 alone */
cuda_fake cuda_fake_load(const char *file);

typedef struct job_row {
    fc_dtype dtype;
    int32_t batch, q_heads, kv_heads, q_len, kv_len, head_dim;
    fc_layout layout;
    fc_causal causal;
    int64_t left, right;
    float softcap;
    bool has_kv_lens, wants_lse, is_strided;
} job_row;

/* A job and the memory behind it: every tensor at an odd address, in an allocation of its own. */
typedef struct made_job {
    fc_engine_job job;
    uint32_t kv_lens[4];
    void *memory[5];
    int count;
} made_job;

void make_job(made_job *made, const job_row *row, fc_kernel kernel, const cuda_fake *fake, fc_engine *engine);
void free_job(made_job *made);

/* Fails the test unless out and lse are right. */
void check_answer(const fc_engine_job *job, int row);

/* An engine with one lane. */
typedef struct rig {
    fc_engine *engine;
    fc_engine_lane *lane;
} rig;

/* On failure nothing is left open. */
fc_status rig_open(rig *r, const cuda_fake *fake, const fc_engine_config *config, fc_reason *out_reason);
void rig_close(rig *r, const cuda_fake *fake);

#endif
