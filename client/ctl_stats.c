/* The command stats. */
#include "client/ctl_stats.h"

#include "client/ctl_commands.h"
#include "client/ctl_view.h"
#include "client/ctl_watch.h"
#include "client/tool_json.h"

#include <math.h>
#include <string.h>

void fc_ctl_counters_add(void *context, const char *name, double value)
{
    fc_ctl_counters *counters = context;
    if (counters->count == FC_CTL_COUNTERS_MAX)
        return;
    snprintf(counters->items[counters->count].name, sizeof counters->items[0].name, "%s", name);
    counters->items[counters->count++].value = value;
}

static bool ends_in(const char *name, const char *ending)
{
    size_t bytes = strlen(name), ending_bytes = strlen(ending);
    return bytes >= ending_bytes && strcmp(name + bytes - ending_bytes, ending) == 0;
}

fc_text fc_ctl_counter_text(const char *name, double value)
{
    if (!(value >= 0) || value >= 1e18) {
        fc_text odd;
        snprintf(odd.text, sizeof odd.text, "%g", value);
        return odd;
    }
    if (strstr(name, "bytes") != NULL)
        return fc_text_bytes((uint64_t)value);
    if (ends_in(name, "_us"))
        return fc_text_us(value);
    if (ends_in(name, "_s"))
        return fc_text_us(value * 1e6);
    if (value == floor(value))
        return fc_text_count((uint64_t)value);
    return fc_text_rate(value);
}

double fc_ctl_counters_get(const fc_ctl_counters *counters, const char *name, double otherwise)
{
    for (size_t i = 0; i < counters->count; i++) {
        if (strcmp(counters->items[i].name, name) == 0)
            return counters->items[i].value;
    }
    return otherwise;
}

void fc_ctl_counters_print(const fc_ctl_counters *counters, bool wants_all, FILE *out)
{
    static fc_table table;
    fc_table_init(&table, "lr");
    fc_table_heading(&table, "counter|value");
    for (size_t i = 0; i < counters->count; i++) {
        const char *name = counters->items[i].name;
        double value = counters->items[i].value;
        bool is_bucket = strstr(name, "_le_") != NULL;
        bool is_hidden = value == 0 || ends_in(name, "_sum");
        if (!is_bucket && (!is_hidden || wants_all))
            fc_table_row(&table, "%s|%s", name, fc_ctl_counter_text(name, value).text);
    }
    fc_table_print(&table, "-", out);
    if (fc_ctl_quantile(counters, NULL, "total_us", 0.5) >= 0)
        fc_ctl_view_latencies(counters, NULL, out);
}

fc_status fc_ctl_counters_collect(const fc_ctl_options *options, flashcore_client *client, uint32_t url,
                                  fc_ctl_counters *out_counters, fc_reason *out_reason)
{
    out_counters->count = 0;
    flashcore_status status = flashcore_stats(client, url, fc_ctl_counters_add, out_counters);
    if (status != FLASHCORE_OK)
        return fc_ctl_fail(options, url, status, flashcore_last_error(), out_reason);
    return FC_OK;
}

static fc_status print_json(const fc_ctl_counters *counters, fc_reason *out_reason)
{
    fc_json *json = fc_json_create();
    for (size_t i = 0; i < counters->count; i++) {
        double value = counters->items[i].value;
        if (value >= 0 && value == floor(value) && value < 0x1p53)
            fc_json_uint(json, counters->items[i].name, (uint64_t)value);
        else
            fc_json_number(json, counters->items[i].name, value);
    }
    fc_status st = fc_json_save(json, "-", out_reason);
    fc_json_destroy(json);
    return st;
}

fc_status fc_ctl_stats(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    static fc_ctl_counters counters;
    if (options->wants_watch)
        return fc_ctl_watch(options, client, out_reason);
    for (uint32_t url = 0; url < options->urls.count; url++) {
        fc_status st = fc_ctl_counters_collect(options, client, url, &counters, out_reason);
        if (st != FC_OK)
            return st;
        if (options->wants_json)
            return print_json(&counters, out_reason);
        printf("%s\n", options->urls.items[url]);
        fc_ctl_counters_print(&counters, options->wants_all, stdout);
    }
    return FC_OK;
}
