/* The command stats. */
#include "client/ctl_stats.h"

#include "client/ctl_commands.h"
#include "client/tool_clock.h"
#include "client/tool_json.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

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

/* The value the same counter had in `earlier`, or 0. Usually it stands at the same place. */
static double value_then(const fc_ctl_counters *earlier, size_t index, const char *name)
{
    if (index < earlier->count && strcmp(earlier->items[index].name, name) == 0)
        return earlier->items[index].value;
    for (size_t i = 0; i < earlier->count; i++) {
        if (strcmp(earlier->items[i].name, name) == 0)
            return earlier->items[i].value;
    }
    return 0;
}

void fc_ctl_counters_print(const fc_ctl_counters *now, const fc_ctl_counters *earlier, double elapsed_s, bool wants_all,
                           FILE *out)
{
    static fc_table table;
    fc_table_init(&table, "lrr");
    fc_table_heading(&table, earlier != NULL ? "counter|value|a second" : "counter|value|");
    for (size_t i = 0; i < now->count; i++) {
        const char *name = now->items[i].name;
        double value = now->items[i].value;
        if (strstr(name, "_le_") != NULL)
            continue; /* a histogram's bucket */
        double change = earlier != NULL ? (value - value_then(earlier, i, name)) / elapsed_s : 0;
        if (value == 0 && change == 0 && !wants_all)
            continue;
        bool is_time = ends_in(name, "_s");
        char rate[FC_TEXT_BYTES + 2] = "";
        if (change != 0 && !is_time)
            snprintf(rate, sizeof rate, "%s%s", change > 0 ? "+" : "-",
                     strstr(name, "bytes") != NULL || ends_in(name, "_us")
                         ? fc_ctl_counter_text(name, fabs(change)).text
                         : fc_text_rate(fabs(change)).text);
        fc_table_row(&table, "%s|%s|%s", name, fc_ctl_counter_text(name, value).text, rate);
    }
    fc_table_print(&table, "-", out);
}

static fc_status collect(const fc_ctl_options *options, flashcore_client *client, uint32_t url,
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

/* Until --count looks are done; a terminal is redrawn, anything else gets one table after the other. */
static fc_status watch(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    static fc_ctl_counters looks[2];
    bool has_terminal = isatty(STDOUT_FILENO);
    uint64_t last_ns = 0;
    for (uint64_t look = 0; options->count == 0 || look < options->count; look++) {
        fc_ctl_counters *now = &looks[look % 2], *earlier = &looks[(look + 1) % 2];
        fc_status st = collect(options, client, 0, now, out_reason);
        uint64_t now_ns = fc_clock_now_ns();
        if (st != FC_OK)
            return st;
        if (has_terminal)
            fputs("\x1b[H\x1b[2J", stdout);
        printf("%s, every %g s\n", options->urls.items[0], options->interval_s);
        fc_ctl_counters_print(now, look > 0 ? earlier : NULL, (double)(now_ns - last_ns) / 1e9, options->wants_all,
                              stdout);
        if (fflush(stdout) != 0)
            return fc_fail(FC_IO, out_reason, "standard output could not be written");
        last_ns = now_ns;
        if (options->count == 0 || look + 1 < options->count)
            fc_clock_sleep_until(now_ns + (uint64_t)(options->interval_s * 1e9));
    }
    return FC_OK;
}

fc_status fc_ctl_stats(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    static fc_ctl_counters counters;
    if (options->wants_watch)
        return watch(options, client, out_reason);
    for (uint32_t url = 0; url < options->urls.count; url++) {
        fc_status st = collect(options, client, url, &counters, out_reason);
        if (st != FC_OK)
            return st;
        if (options->wants_json)
            return print_json(&counters, out_reason);
        printf("%s\n", options->urls.items[url]);
        fc_ctl_counters_print(&counters, NULL, 0, options->wants_all, stdout);
    }
    return FC_OK;
}
