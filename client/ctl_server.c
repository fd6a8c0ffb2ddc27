/* Commands about the server itself: ping, info, kernels. */
#include "client/ctl_commands.h"

#include "client/tool_clock.h"
#include "client/tool_json.h"
#include "client/tool_server.h"
#include "client/tool_text.h"

#include <string.h>

fc_status fc_ctl_fail(const fc_ctl_options *options, uint32_t url, flashcore_status status, const char *error,
                      fc_reason *out_reason)
{
    return fc_server_fail(options->urls.items[url], status, error, out_reason);
}

/* --- ping ------------------------------------------------------------------------------------------------------ */

static fc_status ping_url(const fc_ctl_options *options, flashcore_client *client, uint32_t url, fc_reason *out_reason)
{
    uint64_t count = options->count != 0 ? options->count : 1;
    double least_us = 0, most_us = 0, sum_us = 0;
    for (uint64_t i = 0; i < count; i++) {
        double us = 0;
        flashcore_status status = flashcore_ping(client, url, &us);
        if (status != FLASHCORE_OK)
            return fc_ctl_fail(options, url, status, flashcore_last_error(), out_reason);
        least_us = i == 0 || us < least_us ? us : least_us;
        most_us = us > most_us ? us : most_us;
        sum_us += us;
    }
    if (count == 1)
        printf("%s: %s\n", options->urls.items[url], fc_text_us(sum_us).text);
    else
        printf("%s: %s pings, min %s, mean %s, max %s\n", options->urls.items[url], fc_text_count(count).text,
               fc_text_us(least_us).text, fc_text_us(sum_us / (double)count).text, fc_text_us(most_us).text);
    return FC_OK;
}

fc_status fc_ctl_ping(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    fc_status st = FC_OK;
    for (uint32_t url = 0; st == FC_OK && url < options->urls.count; url++)
        st = ping_url(options, client, url, out_reason);
    return st;
}

/* --- info ------------------------------------------------------------------------------------------------------ */

/* The limits of a hello, once: X(field, label, is_bytes). */
#define LIMITS(X)                                                                                                      \
    X(message_bytes_max, "message", true)                                                                              \
    X(tensor_bytes_max, "tensor", true)                                                                                \
    X(tokens_max, "tokens a sequence", false)                                                                          \
    X(head_dim_max, "head_dim", false)                                                                                 \
    X(batch_entries_max, "batch entries", false)                                                                       \
    X(queue_requests_max, "queued requests", false)                                                                    \
    X(queue_bytes_max, "queued bytes", true)                                                                           \
    X(inflight_per_peer_max, "in flight a connection", false)

/* "a, b, c" in out. */
static void join(const char names[][32], uint32_t count, char *out, size_t out_bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < count && used < out_bytes; i++)
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", i == 0 ? "" : ", ", names[i]);
}

static void add_limit(fc_table *table, const char *label, uint64_t limit, bool is_bytes, const char *heading)
{
    /* 0: a server that does not state this one. */
    fc_text text = is_bytes ? fc_text_bytes(limit) : fc_text_count(limit);
    fc_table_row(table, "%s|%s|%s", heading, label, limit != 0 ? text.text : "-");
}

static void print_info(const char *url, const flashcore_info *info)
{
    char kernels[512], features[512];
    fc_table table;
    join(info->kernels, info->kernel_count, kernels, sizeof kernels);
    join(info->features, info->feature_count, features, sizeof features);
    printf("%s\n", url);
    printf("  server    %s %s\n", info->server, info->version);
    printf("  device    %s\n", info->device);
    printf("  kernels   %s (default %s)\n", kernels, info->default_kernel);
    printf("  features  %s\n", features[0] != '\0' ? features : "none");
    fc_table_init(&table, "llr");
    const char *heading = "limits  ";
#define ADD_LIMIT(field, label, is_bytes)                                                                              \
    add_limit(&table, label, info->field, is_bytes, heading);                                                          \
    heading = "";
    LIMITS(ADD_LIMIT)
#undef ADD_LIMIT
    fc_table_print(&table, "-", stdout);
}

static void add_names(fc_json *json, const char *key, const char names[][32], uint32_t count)
{
    fc_json_begin_list(json, key);
    for (uint32_t i = 0; i < count; i++)
        fc_json_text(json, NULL, names[i]);
    fc_json_end(json);
}

static fc_status print_info_json(const char *url, const flashcore_info *info, fc_reason *out_reason)
{
    fc_json *json = fc_json_create();
    fc_json_text(json, "url", url);
    fc_json_text(json, "server", info->server);
    fc_json_text(json, "version", info->version);
    fc_json_text(json, "device", info->device);
    fc_json_text(json, "default_kernel", info->default_kernel);
    add_names(json, "kernels", info->kernels, info->kernel_count);
    add_names(json, "features", info->features, info->feature_count);
    fc_json_begin_object(json, "limits");
#define ADD_LIMIT(field, label, is_bytes) fc_json_uint(json, #field, info->field);
    LIMITS(ADD_LIMIT)
#undef ADD_LIMIT
    fc_json_end(json);
    fc_status st = fc_json_save(json, "-", out_reason);
    fc_json_destroy(json);
    return st;
}

fc_status fc_ctl_info(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    fc_status st = FC_OK;
    for (uint32_t url = 0; st == FC_OK && url < options->urls.count; url++) {
        static flashcore_info info;
        flashcore_status status = flashcore_hello(client, url, &info);
        if (status != FLASHCORE_OK)
            return fc_ctl_fail(options, url, status, flashcore_last_error(), out_reason);
        if (options->wants_json)
            st = print_info_json(options->urls.items[url], &info, out_reason);
        else
            print_info(options->urls.items[url], &info);
    }
    return st;
}

/* --- kernels --------------------------------------------------------------------------------------------------- */

fc_status fc_ctl_kernels(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    static fc_table table;
    fc_table_init(&table, "llll");
    fc_table_heading(&table, "kernel|default|server|device");
    for (uint32_t url = 0; url < options->urls.count; url++) {
        static flashcore_info info;
        flashcore_status status = flashcore_hello(client, url, &info);
        if (status != FLASHCORE_OK)
            return fc_ctl_fail(options, url, status, flashcore_last_error(), out_reason);
        for (uint32_t i = 0; i < info.kernel_count; i++)
            fc_table_row(&table, "%s|%s|%s|%s", info.kernels[i],
                         strcmp(info.kernels[i], info.default_kernel) == 0 ? "yes" : "", options->urls.items[url],
                         info.device);
    }
    fc_table_print(&table, "-", stdout);
    return FC_OK;
}
