/* The command attend: NumPy files in, NumPy files out. */
#include "client/ctl_commands.h"
#include "client/ctl_files.h"
#include "client/tool_text.h"

#include <stdlib.h>

static fc_status save(const fc_ctl_options *options, const fc_shape *s, const void *out, const float *lse,
                      fc_reason *out_reason)
{
    bool is_bshd = s->layout == FC_BSHD;
    const uint64_t out_shape[4] = {s->batch, is_bshd ? s->q_len : s->q_heads, is_bshd ? s->q_heads : s->q_len,
                                   s->head_dim};
    const uint64_t lse_shape[3] = {s->batch, s->q_heads, s->q_len};
    fc_status st = fc_npy_save(options->out_path, s->dtype, 4, out_shape, out, out_reason);
    if (st == FC_OK && lse != NULL)
        st = fc_npy_save(options->lse_path, FC_F32, 3, lse_shape, lse, out_reason);
    return st;
}

static void print_result(const fc_ctl_options *options, const fc_shape *shape, const flashcore_result *result)
{
    char text[256];
    fc_shape_text(shape, text, sizeof text);
    printf("%s: %s, kernel %s on %s\n", options->out_path, text, result->kernel, result->device);
    printf("  queue %s, copy in %s, kernel %s, copy out %s, in all %s\n", fc_text_us(result->queue_us).text,
           fc_text_us(result->copy_in_us).text, fc_text_us(result->kernel_us).text,
           fc_text_us(result->copy_out_us).text, fc_text_us(result->client_total_us).text);
}

static fc_status attend(const fc_ctl_options *options, flashcore_client *client, const fc_shape *shape,
                        const fc_inputs *inputs, fc_reason *out_reason)
{
    flashcore_request request;
    static flashcore_result result;
    fc_status st = FC_OK;
    void *out = malloc(fc_shape_q_bytes(shape) + 1);
    float *lse = options->lse_path != NULL ? malloc(fc_shape_lse_count(shape) * sizeof *lse + 1) : NULL;
    if (out == NULL || (options->lse_path != NULL && lse == NULL)) {
        st = fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
        goto free_outputs;
    }
    fc_shape_request(shape, inputs, options->kernels.count > 0 ? options->kernels.items[0] : NULL, out, lse, &request);
    flashcore_status status = flashcore_attend(client, &request, &result);
    if (status != FLASHCORE_OK)
        st = fc_ctl_fail(options, result.url_index < options->urls.count ? result.url_index : 0, status, result.error,
                         out_reason);
    else
        st = save(options, shape, out, lse, out_reason);
    if (st == FC_OK)
        print_result(options, shape, &result);
free_outputs:
    free(out);
    free(lse);
    return st;
}

fc_status fc_ctl_attend(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    static fc_shape shape;
    fc_inputs inputs;
    fc_status st = fc_ctl_files_load(options, &shape, &inputs, out_reason);
    if (st != FC_OK)
        return st;
    st = attend(options, client, &shape, &inputs, out_reason);
    fc_inputs_fini(&inputs);
    return st;
}
