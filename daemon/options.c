/* The option table expanded, and the order of its sources: defaults, file, command line. */
#include "daemon/options.h"

#include "daemon/http_address.h"
#include "daemon/listen_policy.h"
#include "daemon/option_value.h"
#include "proto/spelling.h"

#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const fc_option TABLE[FC_OPTION_COUNT] = {
#define FC_OPTION(field, name, letter, type, default_text, min, max, when, group, metavar, help)                       \
    [FC_OPTION_##field] = {name,                                                                                       \
                           letter,                                                                                     \
                           FC_TYPE_##type,                                                                             \
                           default_text,                                                                               \
                           min,                                                                                        \
                           max,                                                                                        \
                           FC_WHEN_##when,                                                                             \
                           FC_GROUP_##group,                                                                           \
                           metavar,                                                                                    \
                           help,                                                                                       \
                           offsetof(fc_options, field),                                                                \
                           sizeof((fc_options *)NULL)->field},
#include "daemon/options.def"
#undef FC_OPTION
};

static const char *const GROUP_TITLES[FC_GROUP_COUNT] = {
#define FC_OPTION_GROUP(symbol, title) [FC_GROUP_##symbol] = title,
#include "daemon/options.def"
#undef FC_OPTION_GROUP
};

/* Values of getopt_long() for options without a letter. */
#define LONG_BASE 256

const fc_option *fc_options_row(fc_option_id id)
{
    assert((unsigned)id < FC_OPTION_COUNT);
    return &TABLE[id];
}

const char *fc_options_group_title(fc_option_group group)
{
    assert((unsigned)group < FC_GROUP_COUNT);
    return GROUP_TITLES[group];
}

static void *field_of(fc_options *options, fc_option_id id)
{
    return (char *)options + TABLE[id].field_offset;
}

static const void *const_field_of(const fc_options *options, fc_option_id id)
{
    return (const char *)options + TABLE[id].field_offset;
}

const char *fc_options_value(const fc_options *options, fc_option_id id, uint32_t index,
                             char text[FC_OPTION_VALUE_BYTES])
{
    fc_option_value_format(&TABLE[id], const_field_of(options, id), index, text);
    return text;
}

const char *fc_options_range(fc_option_id id, char text[FC_OPTION_VALUE_BYTES])
{
    fc_option_value_range(&TABLE[id], text);
    return text;
}

void fc_options_defaults(fc_options *out_options)
{
    memset(out_options, 0, sizeof *out_options);
    for (int id = 0; id < FC_OPTION_COUNT; id++) {
        fc_status st = fc_option_value_parse(&TABLE[id], TABLE[id].default_text, field_of(out_options, id), NULL);
        assert(st == FC_OK);
        (void)st;
    }
}

/* --- names ------------------------------------------------------------------------------------------------------- */

static fc_status unknown_name(const char *name, fc_reason *out_reason)
{
    size_t best = SIZE_MAX;
    const char *nearest = NULL;
    for (int id = 0; id < FC_OPTION_COUNT; id++) {
        size_t distance = fc_spelling_distance(TABLE[id].name, name);
        if (distance < best) {
            best = distance;
            nearest = TABLE[id].name;
        }
    }
    if (nearest != NULL && best <= 1 + strlen(nearest) / 4)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "unknown option \"%.60s\", did you mean \"%s\"?", name,
                       nearest);
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "unknown option \"%.60s\"", name);
}

static bool find_name(const char *name, fc_option_id *out_id)
{
    for (int id = 0; id < FC_OPTION_COUNT; id++) {
        if (strcmp(TABLE[id].name, name) == 0) {
            *out_id = (fc_option_id)id;
            return true;
        }
    }
    return false;
}

/* --- setting ------------------------------------------------------------------------------------------------------ */

static fc_status set_by_id(fc_options *options, fc_option_id id, const char *value, fc_option_source source,
                           fc_reason *out_reason)
{
    const fc_option *row = &TABLE[id];
    /* Check into a scratch place first: a source that loses must be right all the same, and a wrong value of a source
     * that wins must not clear a list. */
    fc_options scratch;
    void *field = field_of(options, id), *trial = field_of(&scratch, id);
    bool appends = row->type == FC_TYPE_LIST && options->sources[id] == source;
    if (appends)
        memcpy(trial, field, row->field_bytes);
    else
        memset(trial, 0, row->field_bytes);

    fc_reason why;
    fc_status st = fc_option_value_parse(row, value, trial, &why);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "%s: %s", row->name, why.text);
    if (options->sources[id] > source)
        return FC_OK;
    memcpy(field, trial, row->field_bytes);
    options->sources[id] = source;
    return FC_OK;
}

fc_status fc_options_set(fc_options *options, const char *name, const char *value, fc_option_source source,
                         fc_reason *out_reason)
{
    fc_option_id id;
    if (!find_name(name, &id))
        return unknown_name(name, out_reason);
    if (source == FC_FROM_FILE && TABLE[id].when == FC_WHEN_ONCE)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: expected on the command line only", name);
    return set_by_id(options, id, value, source, out_reason);
}

/* --- command line ------------------------------------------------------------------------------------------------- */

static bool id_of_value(int value, fc_option_id *out_id)
{
    if (value >= LONG_BASE && value < LONG_BASE + FC_OPTION_COUNT) {
        *out_id = (fc_option_id)(value - LONG_BASE);
        return true;
    }
    for (int id = 0; id < FC_OPTION_COUNT; id++) {
        if (TABLE[id].letter != 0 && TABLE[id].letter == value) {
            *out_id = (fc_option_id)id;
            return true;
        }
    }
    return false;
}

/* getopt's two tables, from ours. */
static void make_getopt_tables(struct option longs[FC_OPTION_COUNT + 1], char shorts[2 * FC_OPTION_COUNT + 2])
{
    *shorts++ = ':';
    for (int id = 0; id < FC_OPTION_COUNT; id++) {
        bool is_flag = TABLE[id].type == FC_TYPE_FLAG;
        longs[id] = (struct option){
            .name = TABLE[id].name, .has_arg = is_flag ? no_argument : required_argument, .val = LONG_BASE + id};
        if (TABLE[id].letter == 0)
            continue;
        *shorts++ = TABLE[id].letter;
        if (!is_flag)
            *shorts++ = ':';
    }
    *shorts = '\0';
    longs[FC_OPTION_COUNT] = (struct option){0};
}

/* What getopt refused: optopt and the word it was in tell why. */
static fc_status bad_flag(int answer, const char *last_word, fc_reason *out_reason)
{
    fc_option_id id;
    if (answer == ':' && id_of_value(optopt, &id))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: expected %s after it, got nothing", TABLE[id].name,
                       TABLE[id].metavar);
    if (optopt >= LONG_BASE && id_of_value(optopt, &id))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: expected no value, got one", TABLE[id].name);
    if (optopt != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "unknown option \"-%c\"", optopt);
    char name[64];
    snprintf(name, sizeof name, "%s", last_word + strspn(last_word, "-"));
    name[strcspn(name, "=")] = '\0';
    return unknown_name(name, out_reason);
}

static fc_status parse_argv(int argc, char **argv, fc_options *options, fc_reason *out_reason)
{
    struct option longs[FC_OPTION_COUNT + 1];
    char shorts[2 * FC_OPTION_COUNT + 2];
    make_getopt_tables(longs, shorts);
    opterr = 0;
    optind = 0; /* glibc: start over, static state included */
    for (;;) {
        optopt = 0;
        int answer = getopt_long(argc, argv, shorts, longs, NULL);
        fc_option_id id;
        if (answer == -1)
            break;
        if (!id_of_value(answer, &id))
            return bad_flag(answer, argv[optind - 1], out_reason);
        const char *value = TABLE[id].type == FC_TYPE_FLAG ? "yes" : optarg;
        fc_status st = set_by_id(options, id, value, FC_FROM_COMMAND_LINE, out_reason);
        if (st != FC_OK || options->help || options->version)
            return st;
    }
    if (optind < argc)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "expected options only, got \"%.60s\"", argv[optind]);
    return FC_OK;
}

/* --- what depends on more than one -------------------------------------------------------------------------------- */

/* Staging one request needs when each of its tensors is as large as allowed: q, k, v, out, the lse of the smallest
 * head_dim (f32 a row of 8 f16: a quarter), and room for alignment and segments. */
#define STAGING_SLACK_BYTES (1ull << 20)

static uint64_t staging_for(uint64_t tensor_bytes)
{
    return 4 * tensor_bytes + tensor_bytes / 4 + STAGING_SLACK_BYTES;
}

/* `small` may not be larger than `large`. A default gives way to what the user asked for; two wishes that contradict
 * each other are an error. */
static fc_status fit_below(fc_options *options, fc_option_id small, fc_option_id large, fc_reason *out_reason)
{
    uint64_t *small_value = field_of(options, small), *large_value = field_of(options, large);
    if (*small_value <= *large_value)
        return FC_OK;
    /* The one that gives way is from then on as wished for as the other. */
    if (options->sources[small] == FC_FROM_DEFAULT) {
        *small_value = *large_value;
        options->sources[small] = options->sources[large];
        return FC_OK;
    }
    if (options->sources[large] == FC_FROM_DEFAULT) {
        *large_value = *small_value;
        options->sources[large] = options->sources[small];
        return FC_OK;
    }
    char small_text[FC_OPTION_VALUE_BYTES], large_text[FC_OPTION_VALUE_BYTES];
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: expected at most %s, which is %.20s, got %.20s",
                   TABLE[small].name, TABLE[large].name, fc_options_value(options, large, 0, large_text),
                   fc_options_value(options, small, 0, small_text));
}

/* A hello promises tensor_bytes, so a lane must be able to stage a request made of such tensors. */
static fc_status fit_staging(fc_options *options, fc_reason *out_reason)
{
    if (options->lane_staging_bytes == 0) {
        options->lane_staging_bytes = staging_for(options->tensor_bytes);
        return FC_OK;
    }
    if (options->lane_staging_bytes >= staging_for(options->tensor_bytes))
        return FC_OK;
    if (options->sources[FC_OPTION_tensor_bytes] == FC_FROM_DEFAULT &&
        options->lane_staging_bytes >= staging_for(TABLE[FC_OPTION_tensor_bytes].min)) {
        options->tensor_bytes = (options->lane_staging_bytes - STAGING_SLACK_BYTES) / 17 * 4;
        return FC_OK;
    }
    return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                   "lane-staging-bytes: expected at least %" PRIu64 " (what tensor-bytes %" PRIu64
                   " needs) or 0, got %" PRIu64,
                   staging_for(options->tensor_bytes), options->tensor_bytes, options->lane_staging_bytes);
}

/* Whoever reaches the address may read it: beyond this machine only by wish. */
static fc_status check_metrics(const fc_options *options, fc_reason *out_reason)
{
    fc_http_address address;
    fc_reason why;
    if (options->metrics[0] == '\0')
        return FC_OK;
    if (fc_http_address_parse(options->metrics, &address, &why) != FC_OK)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "metrics: %s", why.text);
    if (!address.is_loopback && !options->insecure_metrics)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "metrics: expected an address of this machine alone (127.0.0.1, ::1, unix:) or "
                       "--insecure-metrics beside it, got \"%.60s\"",
                       options->metrics);
    return FC_OK;
}

/* Below a second a launch that merely waits for the processor would be taken for one that hangs. */
static fc_status check_kernel_timeout(const fc_options *options, fc_reason *out_reason)
{
    if (options->kernel_timeout_ns == 0 || options->kernel_timeout_ns >= FC_NS_PER_S)
        return FC_OK;
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kernel-timeout: expected 0 or at least 1s, got %llu us",
                   (unsigned long long)(options->kernel_timeout_ns / FC_NS_PER_US));
}

/* Checks what depends on more than one option and works out lane_staging_bytes. */
static fc_status finish(fc_options *options, fc_reason *out_reason)
{
    fc_status st = fit_below(options, FC_OPTION_tensor_bytes, FC_OPTION_message_bytes, out_reason);
    if (st == FC_OK)
        st = fit_below(options, FC_OPTION_message_bytes, FC_OPTION_queue_bytes, out_reason);
    if (st == FC_OK)
        st = fit_below(options, FC_OPTION_tensor_bytes, FC_OPTION_message_bytes, out_reason);
    if (st == FC_OK)
        st = fit_staging(options, out_reason);
    if (st == FC_OK)
        st = check_metrics(options, out_reason);
    if (st == FC_OK)
        st = check_kernel_timeout(options, out_reason);
    if (st == FC_OK)
        st = fc_listen_policy_check(options, out_reason);
    return st;
}

fc_status fc_options_parse(int argc, char **argv, fc_options *out_options, fc_reason *out_reason)
{
    fc_options options;
    fc_options_defaults(&options);
    fc_status st = parse_argv(argc, argv, &options, out_reason);
    bool is_asked_to_work = !options.help && !options.version;
    if (st == FC_OK && is_asked_to_work && options.config[0] != '\0')
        st = fc_config_file_read(options.config, &options, out_reason);
    if (st == FC_OK && is_asked_to_work)
        st = finish(&options, out_reason);
    if (st == FC_OK)
        *out_options = options;
    return st;
}

/* --- reload ------------------------------------------------------------------------------------------------------- */

static bool is_same(const fc_options *a, const fc_options *b, fc_option_id id)
{
    char text_a[FC_OPTION_VALUE_BYTES], text_b[FC_OPTION_VALUE_BYTES];
    uint32_t count = 1;
    if (TABLE[id].type == FC_TYPE_LIST) {
        const fc_url_list *list_a = const_field_of(a, id), *list_b = const_field_of(b, id);
        if (list_a->count != list_b->count)
            return false;
        count = list_a->count;
    }
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(fc_options_value(a, id, i, text_a), fc_options_value(b, id, i, text_b)) != 0)
            return false;
    return true;
}

void fc_options_reload(fc_options *current, const fc_options *fresh, fc_option_changed changed, void *context)
{
    for (int i = 0; i < FC_OPTION_COUNT; i++) {
        fc_option_id id = (fc_option_id)i;
        char value[FC_OPTION_VALUE_BYTES];
        if (is_same(current, fresh, id))
            continue;
        bool is_applied = TABLE[id].when == FC_WHEN_RELOAD;
        if (is_applied) {
            memcpy(field_of(current, id), const_field_of(fresh, id), TABLE[id].field_bytes);
            current->sources[id] = fresh->sources[id];
        }
        changed(context, TABLE[id].name, fc_options_value(fresh, id, 0, value), is_applied);
    }
}
