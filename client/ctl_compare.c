/* The command compare: two kernels on the same inputs. They run in turn, A B A B, so that a machine that changes its
 * clock or its load changes it for both.
 */
#include "client/ctl_commands.h"
#include "client/ctl_difference.h"
#include "client/ctl_files.h"
#include "client/tool_server.h"
#include "client/tool_text.h"

#include <stdlib.h>
#include <string.h>

typedef struct side {
    flashcore_client *client; /* borrowed */
    uint32_t url;
    const char *kernel;
    void *out;
    float *lse;
    double *kernel_us, *client_us; /* [repeat] */
    flashcore_result result;       /* of the latest run */
} side;

static fc_status init_side(side *s, const fc_shape *shape, uint64_t repeat)
{
    s->out = malloc(fc_shape_q_bytes(shape) + 1);
    s->lse = malloc(fc_shape_lse_count(shape) * sizeof *s->lse + 1);
    s->kernel_us = calloc(repeat, sizeof *s->kernel_us);
    s->client_us = calloc(repeat, sizeof *s->client_us);
    bool is_whole = s->out != NULL && s->lse != NULL && s->kernel_us != NULL && s->client_us != NULL;
    return is_whole ? FC_OK : FC_NO_MEMORY;
}

static void fini_side(side *s)
{
    free(s->out);
    free(s->lse);
    free(s->kernel_us);
    free(s->client_us);
}

/* One run; timed when index < repeat. */
static fc_status run_side(const fc_ctl_options *options, side *s, const fc_shape *shape, const fc_inputs *inputs,
                          uint64_t index, fc_reason *out_reason)
{
    flashcore_request request;
    fc_shape_request(shape, inputs, s->kernel, s->out, s->lse, &request);
    flashcore_status status = flashcore_attend(s->client, &request, &s->result);
    if (status != FLASHCORE_OK)
        return fc_fail((fc_status)status, out_reason, "%s: kernel %s: %s", options->urls.items[s->url], s->kernel,
                       fc_server_error(status, s->result.error));
    if (index < options->repeat) {
        s->kernel_us[index] = s->result.kernel_us;
        s->client_us[index] = s->result.client_total_us;
    }
    return FC_OK;
}

static fc_status run_sides(const fc_ctl_options *options, side *sides, const fc_shape *shape, const fc_inputs *inputs,
                           fc_reason *out_reason)
{
    fc_status st = FC_OK;
    for (int i = 0; i < 2 && st == FC_OK; i++)
        st = run_side(options, &sides[i], shape, inputs, UINT64_MAX, out_reason);
    for (uint64_t index = 0; index < options->repeat; index++) {
        for (int i = 0; i < 2 && st == FC_OK; i++)
            st = run_side(options, &sides[i], shape, inputs, index, out_reason);
    }
    return st;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint64_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return count % 2 != 0 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void print_difference(const char *what, const fc_difference *d, uint64_t count)
{
    if (d->differing_count == 0)
        printf("  %-4s  bit for bit the same\n", what);
    else
        printf("  %-4s  largest difference %.3g at element %llu, relative %.3g; %s of %s elements differ\n", what,
               d->largest_absolute, (unsigned long long)d->largest_at, d->relative_frobenius,
               fc_text_count(d->differing_count).text, fc_text_count(count).text);
}

static void print_sides(const fc_ctl_options *options, side *sides, const fc_shape *shape)
{
    static fc_table table;
    char text[256];
    double kernel_us[2], client_us[2];
    fc_shape_text(shape, text, sizeof text);
    printf("%s, median of %llu\n", text, (unsigned long long)options->repeat);
    fc_table_init(&table, "lrrrl");
    fc_table_heading(&table, "kernel|kernel time|speed|client time|device");
    for (int i = 0; i < 2; i++) {
        kernel_us[i] = median(sides[i].kernel_us, options->repeat);
        client_us[i] = median(sides[i].client_us, options->repeat);
        fc_table_row(&table, "%s|%s|%.2fx|%s|%s", sides[i].result.kernel, fc_text_us(kernel_us[i]).text,
                     kernel_us[i] > 0 ? kernel_us[0] / kernel_us[i] : 0, fc_text_us(client_us[i]).text,
                     sides[i].result.device);
    }
    fc_table_print(&table, "-", stdout);
    fc_difference out = fc_difference_of(shape->dtype, sides[0].out, sides[1].out, fc_shape_q_count(shape));
    fc_difference lse = fc_difference_of(FC_F32, sides[0].lse, sides[1].lse, fc_shape_lse_count(shape));
    print_difference("out", &out, fc_shape_q_count(shape));
    print_difference("lse", &lse, fc_shape_lse_count(shape));
}

static fc_status compare(const fc_ctl_options *options, flashcore_client *const *clients, const fc_shape *shape,
                         const fc_inputs *inputs, fc_reason *out_reason)
{
    static side sides[2];
    fc_status st = FC_OK;
    for (int i = 0; i < 2; i++) {
        sides[i] = (side){.client = clients[i],
                          .url = i == 1 && options->urls.count == 2 ? 1 : 0,
                          .kernel = options->kernels.items[i]};
        if (init_side(&sides[i], shape, options->repeat) != FC_OK)
            st = fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    }
    if (st == FC_OK)
        st = run_sides(options, sides, shape, inputs, out_reason);
    if (st == FC_OK)
        print_sides(options, sides, shape);
    fini_side(&sides[0]);
    fini_side(&sides[1]);
    return st;
}

/* A client for each URL: the one at hand spreads its requests over both. */
static fc_status open_two(const fc_ctl_options *options, flashcore_client **clients, fc_reason *out_reason)
{
    for (int i = 0; i < 2; i++) {
        fc_arg_texts one = {.items = {options->urls.items[i]}, .count = 1};
        fc_server_manner manner = {.timeout_s = options->timeout_s, .inflight_max = 1, .path = FLASHCORE_PATH_AUTO};
        fc_status st = fc_server_open(&one, &options->tls, &manner, &clients[i], out_reason);
        if (st != FC_OK)
            return st;
    }
    return FC_OK;
}

fc_status fc_ctl_compare(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    static fc_shape shape;
    fc_inputs inputs = {NULL, NULL, NULL};
    flashcore_client *own[2] = {NULL, NULL}, *clients[2] = {client, client};
    fc_status st = FC_OK;
    if (options->q_path != NULL) {
        st = fc_ctl_files_load(options, &shape, &inputs, out_reason);
    } else {
        st = fc_shape_resolve(&options->shape_options, &shape, out_reason);
        if (st == FC_OK && fc_inputs_init(&shape, options->seed, 0, &inputs) != FC_OK)
            st = fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    }
    if (st == FC_OK && options->urls.count == 2) {
        st = open_two(options, own, out_reason);
        memcpy(clients, own, sizeof clients);
    }
    if (st == FC_OK)
        st = compare(options, clients, &shape, &inputs, out_reason);
    flashcore_client_destroy(own[0]);
    flashcore_client_destroy(own[1]);
    fc_inputs_fini(&inputs);
    return st;
}
