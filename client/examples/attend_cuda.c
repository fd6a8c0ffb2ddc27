/* Attention on tensors in the GPU's memory: attend_cuda URL. Makes a device arena, fills it, asks the server, and
 * compares with what the same server answers to the same tensors in the machine's memory.
 *
 *     cc -std=c99 attend_cuda.c $(pkg-config --cflags --libs flashcore-cuda) -o attend_cuda
 *     ./attend_cuda ipc:///run/flashcored/flashcored.sock
 *
 * A program that has CUDA would run kernels on these addresses and wait for its stream before it asks; this one has
 * none, and copies.
 */
#include "flashcore_cuda.h"

#include <stdio.h>
#include <string.h>

enum { BATCH = 1, HEADS = 8, TOKENS = 512, HEAD_DIM = 64, ELEMENTS = BATCH * HEADS * TOKENS * HEAD_DIM };

static float q[ELEMENTS], k[ELEMENTS], v[ELEMENTS], out[ELEMENTS], there[ELEMENTS];

static flashcore_status attend(flashcore_client *client, const void *q_at, const void *k_at, const void *v_at,
                               void *out_at, flashcore_result *result)
{
    flashcore_tensor tensor = {FLASHCORE_F32, {BATCH, HEADS, TOKENS, HEAD_DIM}, NULL};
    flashcore_request request;
    flashcore_request_init(&request);
    request.q = request.k = request.v = tensor;
    request.q.data = q_at;
    request.k.data = k_at;
    request.v.data = v_at;
    request.out = out_at;
    return flashcore_attend(client, &request, result);
}

/* The same on the GPU: 0, or 1 after saying what went wrong. */
static int attend_there(flashcore_client *client, flashcore_arena *arena)
{
    flashcore_result result;
    void *d_q = flashcore_arena_alloc(arena, sizeof q), *d_k = flashcore_arena_alloc(arena, sizeof k);
    void *d_v = flashcore_arena_alloc(arena, sizeof v), *d_out = flashcore_arena_alloc(arena, sizeof out);
    if (flashcore_cuda_upload(d_q, q, sizeof q) != FLASHCORE_OK ||
        flashcore_cuda_upload(d_k, k, sizeof k) != FLASHCORE_OK ||
        flashcore_cuda_upload(d_v, v, sizeof v) != FLASHCORE_OK) {
        fprintf(stderr, "attend_cuda: cannot copy to the GPU\n");
        return 1;
    }
    if (attend(client, d_q, d_k, d_v, d_out, &result) != FLASHCORE_OK) {
        fprintf(stderr, "attend_cuda: %s: %s\n", flashcore_status_name(result.status), result.error);
        return 1;
    }
    printf("in GPU memory: kernel %s, %.1f us there, %.1f us in all\n", result.kernel, result.kernel_us,
           result.client_total_us);
    if (flashcore_cuda_download(there, d_out, sizeof there) != FLASHCORE_OK || memcmp(out, there, sizeof out) != 0) {
        fprintf(stderr, "attend_cuda: the answers differ\n");
        return 1;
    }
    printf("the same answer, bit for bit\n");
    return 0;
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "ipc:///run/flashcored/flashcored.sock";
    flashcore_options options;
    flashcore_result result;
    flashcore_client *client;
    flashcore_arena *arena;
    int i, failed = 1;

    for (i = 0; i < ELEMENTS; i++) {
        q[i] = (float)(i % 7) / 7.0f;
        k[i] = (float)(i % 11) / 11.0f;
        v[i] = (float)(i % 13) / 13.0f;
    }
    flashcore_options_init(&options);
    options.urls = &url;
    options.url_count = 1;
    if (flashcore_client_create(&options, &client) != FLASHCORE_OK) {
        fprintf(stderr, "attend_cuda: %s\n", flashcore_last_error());
        return 1;
    }
    if (attend(client, q, k, v, out, &result) != FLASHCORE_OK)
        fprintf(stderr, "attend_cuda: %s: %s\n", flashcore_status_name(result.status), result.error);
    else if (flashcore_cuda_arena_create(client, 0, 4 * sizeof q, &arena) != FLASHCORE_OK)
        fprintf(stderr, "attend_cuda: %s\n", flashcore_last_error());
    else
        failed = attend_there(client, arena); /* the arena goes with the client */
    flashcore_client_destroy(client);
    return failed;
}
