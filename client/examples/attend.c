/* Attention over a socket: attend URL. Fills q, k and v with numbers, asks the server, prints the first row.
 *
 *     cc -std=c99 attend.c $(pkg-config --cflags --libs flashcore) -o attend
 *     ./attend ipc:///run/flashcored/flashcored.sock
 */
#include "flashcore.h"

#include <stdio.h>

enum { BATCH = 1, HEADS = 8, TOKENS = 512, HEAD_DIM = 64, ELEMENTS = BATCH * HEADS * TOKENS * HEAD_DIM };

static float q[ELEMENTS], k[ELEMENTS], v[ELEMENTS], out[ELEMENTS];

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "ipc:///run/flashcored/flashcored.sock";
    flashcore_options options;
    flashcore_request request;
    flashcore_result result;
    flashcore_client *client;
    flashcore_tensor tensor = {FLASHCORE_F32, {BATCH, HEADS, TOKENS, HEAD_DIM}, NULL};
    int i;

    for (i = 0; i < ELEMENTS; i++) {
        q[i] = (float)(i % 7) / 7.0f;
        k[i] = (float)(i % 11) / 11.0f;
        v[i] = (float)(i % 13) / 13.0f;
    }

    flashcore_options_init(&options);
    options.urls = &url;
    options.url_count = 1;
    if (flashcore_client_create(&options, &client) != FLASHCORE_OK) {
        fprintf(stderr, "attend: %s\n", flashcore_last_error());
        return 1;
    }

    flashcore_request_init(&request);
    request.q = request.k = request.v = tensor;
    request.q.data = q;
    request.k.data = k;
    request.v.data = v;
    request.out = out;
    request.causal = FLASHCORE_CAUSAL_TOP_LEFT;
    if (flashcore_attend(client, &request, &result) == FLASHCORE_OK) {
        printf("kernel %s on %s: %.1f us there, %.1f us in all\n", result.kernel, result.device, result.kernel_us,
               result.client_total_us);
        for (i = 0; i < 4; i++)
            printf("out[%d] = %f\n", i, out[i]);
    } else {
        fprintf(stderr, "attend: %s: %s\n", flashcore_status_name(result.status), result.error);
    }

    flashcore_client_destroy(client);
    return result.status == FLASHCORE_OK ? 0 : 1;
}
