/* Parsing of command lines from a table; the help is in tool_args_help.c. getopt_long does the splitting into options
 * and values, the rows decide what a value may be. Messages are ours: getopt's own do not say what was expected.
 */
#include "client/tool_args.h"

#include "proto/spelling.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 64
/* getopt's return for row i; above every character and its own -1. */
#define ROW_CODE 1000
#define HELP_CODE (ROW_CODE - 1)
#define VERSION_CODE (ROW_CODE - 2)

/* --- one value ------------------------------------------------------------------------------------------------- */

/* What a row takes, for messages: "an integer from 1 to 64". */
static void describe_expected(const fc_arg_row *row, char *out, size_t out_bytes)
{
    switch (row->type) {
    case FC_ARG_UINT:
        snprintf(out, out_bytes, "an integer from %.0f to %.0f", row->min, row->max);
        return;
    case FC_ARG_REAL:
        if (isinf(row->max))
            snprintf(out, out_bytes, "a number, %g or more", row->min);
        else
            snprintf(out, out_bytes, "a number from %g to %g", row->min, row->max);
        return;
    case FC_ARG_INTS:
        if (row->count_min == row->count_max)
            snprintf(out, out_bytes, "%u integers from %.0f to %.0f with commas between (%s)", row->count_min, row->min,
                     row->max, row->metavar);
        else
            snprintf(out, out_bytes, "%u to %u integers from %.0f to %.0f with commas between", row->count_min,
                     row->count_max, row->min, row->max);
        return;
    case FC_ARG_CHOICE: {
        char words[120];
        fc_args_choices_text(row->choices, words, sizeof words);
        snprintf(out, out_bytes, "one of %s", words);
        return;
    }
    default:
        snprintf(out, out_bytes, "%s", row->metavar != NULL ? row->metavar : "no value");
        return;
    }
}

static fc_status refuse(const fc_arg_row *row, const char *value, fc_reason *out_reason)
{
    char expected[160];
    describe_expected(row, expected, sizeof expected);
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s: expected %s, found \"%.48s\"", row->name, expected, value);
}

/* One integer at *text up to a comma or the end; moves *text past it. */
static bool read_int(const char **text, const fc_arg_row *row, int64_t *out_value)
{
    char *end = NULL;
    if (**text != '-' && (**text < '0' || **text > '9'))
        return false;
    errno = 0;
    long long value = strtoll(*text, &end, 10);
    if (end == *text || errno != 0 || (double)value < row->min || (double)value > row->max)
        return false;
    *text = end;
    *out_value = value;
    return true;
}

static bool read_ints(const fc_arg_row *row, const char *value, fc_arg_ints *out_ints)
{
    size_t count = 0;
    for (;;) {
        if (count == row->count_max || count == FC_ARG_LIST_MAX || !read_int(&value, row, &out_ints->items[count]))
            return false;
        count++;
        if (*value == '\0')
            break;
        if (*value++ != ',')
            return false;
    }
    out_ints->count = count;
    return count >= row->count_min;
}

static bool read_real(const fc_arg_row *row, const char *value, double *out_value)
{
    char *end = NULL;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(number) || number < row->min || number > row->max)
        return false;
    *out_value = number;
    return true;
}

/* The next word of a list with bars between (and maybe one at the end, as lists made from a .def have); moves *list
 * past it. NULL: no more. */
static const char *next_choice(const char **list, size_t *out_bytes)
{
    const char *word = *list;
    if (*word == '\0')
        return NULL;
    *out_bytes = strcspn(word, "|");
    *list = word + *out_bytes + (word[*out_bytes] == '|');
    return word;
}

static bool read_choice(const char *choices, const char *value, int *out_index)
{
    size_t bytes = 0;
    int index = 0;
    for (const char *word = next_choice(&choices, &bytes); word != NULL; word = next_choice(&choices, &bytes)) {
        if (bytes == strlen(value) && memcmp(word, value, bytes) == 0) {
            *out_index = index;
            return true;
        }
        index++;
    }
    return false;
}

void fc_args_choice(const char *choices, int index, char *out, size_t out_bytes)
{
    size_t bytes = 0;
    const char *word = next_choice(&choices, &bytes);
    for (; word != NULL && index > 0; index--)
        word = next_choice(&choices, &bytes);
    snprintf(out, out_bytes, "%.*s", word != NULL && index == 0 ? (int)bytes : 0, word != NULL ? word : "");
}

void fc_args_choices_text(const char *choices, char *out, size_t out_bytes)
{
    size_t bytes = 0, used = 0;
    out[0] = '\0';
    for (const char *word = next_choice(&choices, &bytes); word != NULL && used + bytes + 3 < out_bytes;
         word = next_choice(&choices, &bytes))
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%.*s", used == 0 ? "" : ", ", (int)bytes, word);
}

static fc_status store(const fc_arg_row *row, const char *value, void *options, fc_reason *out_reason)
{
    void *field = (char *)options + row->offset;
    bool is_right = true;
    switch (row->type) {
    case FC_ARG_FLAG:
        *(bool *)field = true;
        break;
    case FC_ARG_TEXT:
        is_right = value[0] != '\0';
        *(const char **)field = value;
        break;
    case FC_ARG_TEXTS: {
        fc_arg_texts *texts = field;
        size_t most = row->count_max != 0 ? row->count_max : FC_ARG_TEXTS_MAX;
        if (texts->count == most)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s: given more than %zu times", row->name, most);
        is_right = value[0] != '\0';
        texts->items[texts->count++] = value;
        break;
    }
    case FC_ARG_UINT: {
        int64_t number = 0;
        const char *end = value;
        is_right = read_int(&end, row, &number) && *end == '\0';
        *(uint64_t *)field = (uint64_t)number;
        break;
    }
    case FC_ARG_REAL:
        is_right = read_real(row, value, field);
        break;
    case FC_ARG_CHOICE:
        is_right = read_choice(row->choices, value, field);
        break;
    case FC_ARG_INTS:
        is_right = read_ints(row, value, field);
        break;
    }
    return is_right ? FC_OK : refuse(row, value, out_reason);
}

/* --- "did you mean" -------------------------------------------------------------------------------------------- */

static fc_status refuse_unknown(const fc_arg_tool *tool, const char *given, fc_reason *out_reason)
{
    char word[64];
    bool is_long = given[0] == '-' && given[1] == '-';
    snprintf(word, sizeof word, "%.*s", (int)strcspn(given, "="), given);
    const char *name = is_long ? word + 2 : word;
    const char *best = NULL;
    size_t best_distance = 3;
    for (size_t i = 0; is_long && i < tool->row_count; i++) {
        size_t d = fc_spelling_distance(tool->rows[i].name, name);
        if (d < best_distance) {
            best_distance = d;
            best = tool->rows[i].name;
        }
    }
    if (best != NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "unknown option %s; did you mean --%s?", word, best);
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "unknown option %s; --help lists what there is", word);
}

static fc_status find_command(const fc_arg_tool *tool, const char *word, int *out_command, fc_reason *out_reason)
{
    char names[120] = "";
    size_t used = 0;
    for (size_t i = 0; i < tool->command_count; i++) {
        if (strcmp(tool->commands[i].name, word) == 0) {
            *out_command = (int)i;
            return FC_OK;
        }
        used += (size_t)snprintf(names + used, used < sizeof names ? sizeof names - used : 0, "%s%s",
                                 i == 0 ? "" : ", ", tool->commands[i].name);
    }
    if (tool->command_count == 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "unexpected word \"%.48s\"; options begin with --", word);
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "unknown command \"%.32s\"; expected one of %s", word, names);
}

/* --- the whole line -------------------------------------------------------------------------------------------- */

typedef struct parse {
    const fc_arg_tool *tool;
    void *options;
    bool was_given[ROWS_MAX];
    bool wants_help, wants_version;
} parse;

static void make_getopt_tables(const fc_arg_tool *tool, struct option *out_long, char *out_short)
{
    size_t used = 0;
    out_short[used++] = ':'; /* a missing value is told apart from an unknown option */
    for (size_t i = 0; i < tool->row_count; i++) {
        const fc_arg_row *row = &tool->rows[i];
        bool has_value = row->type != FC_ARG_FLAG;
        out_long[i] = (struct option){row->name, has_value ? required_argument : no_argument, NULL, ROW_CODE + (int)i};
        if (row->letter != 0) {
            out_short[used++] = row->letter;
            if (has_value)
                out_short[used++] = ':';
        }
    }
    out_short[used++] = 'h';
    out_short[used++] = 'V';
    out_short[used] = '\0';
    out_long[tool->row_count] = (struct option){"help", no_argument, NULL, HELP_CODE};
    out_long[tool->row_count + 1] = (struct option){"version", no_argument, NULL, VERSION_CODE};
    out_long[tool->row_count + 2] = (struct option){NULL, 0, NULL, 0};
}

static const fc_arg_row *row_of_code(const fc_arg_tool *tool, int code)
{
    if (code >= ROW_CODE && code < ROW_CODE + (int)tool->row_count)
        return &tool->rows[code - ROW_CODE];
    for (size_t i = 0; i < tool->row_count; i++) {
        if (code > 0 && tool->rows[i].letter == code)
            return &tool->rows[i];
    }
    return NULL;
}

static fc_status take_option(parse *p, int code, const char *given, fc_reason *out_reason)
{
    if (code == 'h' || code == HELP_CODE) {
        p->wants_help = true;
        return FC_OK;
    }
    if (code == 'V' || code == VERSION_CODE) {
        p->wants_version = true;
        return FC_OK;
    }
    const fc_arg_row *row = row_of_code(p->tool, code == ':' || code == '?' ? optopt : code);
    if (code == ':' && row != NULL) {
        char expected[160];
        describe_expected(row, expected, sizeof expected);
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s: a value is missing, expected %s", row->name, expected);
    }
    if (code == '?' && row != NULL)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s takes no value", row->name);
    if (code == '?' || row == NULL) {
        char letter[3] = {'-', (char)optopt, '\0'};
        return refuse_unknown(p->tool, optopt != 0 && optopt < ROW_CODE - 2 ? letter : given, out_reason);
    }
    size_t index = (size_t)(row - p->tool->rows);
    if (p->was_given[index] && row->type != FC_ARG_TEXTS && row->type != FC_ARG_FLAG)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s is given twice", row->name);
    p->was_given[index] = true;
    return store(row, optarg, p->options, out_reason);
}

static fc_status take_options(parse *p, int argc, char *const *argv, fc_reason *out_reason)
{
    struct option long_options[ROWS_MAX + 3];
    char short_options[2 * ROWS_MAX + 4];
    make_getopt_tables(p->tool, long_options, short_options);
    opterr = 0;
    optind = 0; /* glibc: start over, permuting */
    for (;;) {
        int code = getopt_long(argc, argv, short_options, long_options, NULL);
        if (code == -1)
            return FC_OK;
        const char *given = optind > 0 && optind <= argc ? argv[optind - 1] : "";
        fc_status st = take_option(p, code, given, out_reason);
        if (st != FC_OK)
            return st;
    }
}

static fc_status check_command(const parse *p, int command, fc_reason *out_reason)
{
    for (size_t i = 0; i < p->tool->row_count; i++) {
        const fc_arg_row *row = &p->tool->rows[i];
        if (p->was_given[i] && row->commands != 0 && (row->commands & (1u << command)) == 0)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "--%s is not an option of %s", row->name,
                           p->tool->commands[command].name);
    }
    return FC_OK;
}

static fc_status take_words(parse *p, int argc, char *const *argv, int *out_command, fc_reason *out_reason)
{
    fc_status st = FC_OK;
    int last = optind;
    if (optind < argc)
        st = find_command(p->tool, argv[optind], out_command, out_reason);
    bool wants_word =
        st == FC_OK && *out_command >= 0 && isupper((unsigned char)p->tool->commands[*out_command].usage[0]);
    if (wants_word && optind + 1 < argc)
        *(const char **)((char *)p->options + p->tool->word_offset) = argv[++last];
    if (st == FC_OK && last + 1 < argc)
        st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "unexpected word \"%.48s\" after %s", argv[last + 1], argv[last]);
    if (st != FC_OK || p->wants_help || p->wants_version || p->tool->command_count == 0)
        return st;
    if (*out_command < 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "a command is missing; --help lists them");
    if (wants_word && last == optind) {
        const char *usage = p->tool->commands[*out_command].usage;
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "%s: %.*s is missing", argv[optind], (int)strcspn(usage, " "),
                       usage);
    }
    return check_command(p, *out_command, out_reason);
}

fc_args_outcome fc_args_parse(const fc_arg_tool *tool, int argc, char *const *argv, void *options, int *out_command,
                              fc_reason *out_reason)
{
    assert(tool->row_count <= ROWS_MAX);
    parse p = {.tool = tool, .options = options};
    *out_command = -1;
    for (size_t i = 0; i < tool->row_count; i++) {
        if (tool->rows[i].default_text == NULL)
            continue;
        fc_status st = store(&tool->rows[i], tool->rows[i].default_text, options, out_reason);
        assert(st == FC_OK);
        (void)st;
    }
    if (take_options(&p, argc, argv, out_reason) != FC_OK)
        return p.wants_help ? FC_ARGS_HELP : FC_ARGS_WRONG;
    if (take_words(&p, argc, argv, out_command, out_reason) != FC_OK)
        return FC_ARGS_WRONG;
    return p.wants_help ? FC_ARGS_HELP : p.wants_version ? FC_ARGS_VERSION : FC_ARGS_RUN;
}
