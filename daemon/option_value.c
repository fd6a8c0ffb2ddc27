/* Numbers with units, words and URLs: what each option type accepts. */
#include "daemon/option_value.h"

#include "daemon/number.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

typedef struct unit {
    const char *suffix;
    uint64_t factor;
} unit;

/* Largest first: formatting takes the first that divides. */
static const unit BYTE_UNITS[] = {{"G", 1ull << 30}, {"M", 1ull << 20}, {"K", 1ull << 10}, {"", 1}, {NULL, 0}};
static const unit TIME_UNITS[] = {{"s", FC_NS_PER_S}, {"ms", FC_NS_PER_MS}, {"us", FC_NS_PER_US}, {NULL, 0}};
static const unit NO_UNITS[] = {{"", 1}, {NULL, 0}};

typedef struct word {
    const char *name;
    int value;
} word;

static const word ENGINE_WORDS[] = {
    {"auto", FC_ENGINE_CHOICE_AUTO}, {"cuda", FC_ENGINE_CHOICE_CUDA}, {"cpu", FC_ENGINE_CHOICE_CPU}, {NULL, 0}};

static const word KERNEL_WORDS[] = {{"auto", FC_KERNEL_AUTO},
#define FC_KERNEL_ROW(symbol, name, engine, idea) {name, symbol},
#include "kernels/kernel.def"
#undef FC_KERNEL_ROW
                                    {NULL, 0}};

static const word LEVEL_WORDS[] = {
#define LEVEL_WORD(symbol, name, priority, what) {name, symbol},
    FC_LOG_LEVELS(LEVEL_WORD)
#undef LEVEL_WORD
        {NULL, 0}};

static const word FLAG_WORDS[] = {{"yes", true}, {"no", false}, {NULL, 0}};

static const unit *units_of(fc_option_type type)
{
    return type == FC_TYPE_BYTES ? BYTE_UNITS : type == FC_TYPE_DURATION ? TIME_UNITS : NO_UNITS;
}

static const word *words_of(fc_option_type type)
{
    switch (type) {
    case FC_TYPE_ENGINE:
        return ENGINE_WORDS;
    case FC_TYPE_KERNEL:
        return KERNEL_WORDS;
    case FC_TYPE_LEVEL:
        return LEVEL_WORDS;
    case FC_TYPE_FLAG:
        return FLAG_WORDS;
    default:
        return NULL;
    }
}

static void format_number(const fc_option *option, uint64_t value, char *text, size_t text_bytes)
{
    if (option->type == FC_TYPE_MODE) {
        snprintf(text, text_bytes, "%04" PRIo64, value);
        return;
    }
    const unit *u = units_of(option->type);
    while (value == 0 || value % u->factor != 0) {
        if (u[1].suffix == NULL)
            break;
        u++;
    }
    snprintf(text, text_bytes, "%" PRIu64 "%s", value / u->factor, value == 0 ? "" : u->suffix);
}

/* Digits and one of the units, nothing else; zero needs no unit. */
static bool read_number(const fc_option *option, const char *text, uint64_t *out_value)
{
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, option->type == FC_TYPE_MODE ? 8 : 10);
    if (errno != 0)
        return false;
    for (const unit *u = units_of(option->type); u->suffix != NULL; u++) {
        uint64_t value;
        bool is_unit = strcmp(end, u->suffix) == 0 || (number == 0 && end[0] == '\0');
        if (is_unit && !__builtin_mul_overflow((uint64_t)number, u->factor, &value)) {
            *out_value = value;
            return true;
        }
    }
    return false;
}

static const char *number_noun(fc_option_type type)
{
    switch (type) {
    case FC_TYPE_BYTES:
        return "a size like 64M";
    case FC_TYPE_DURATION:
        return "a time like 500ms or 10s";
    case FC_TYPE_MODE:
        return "octal permissions";
    default:
        return "a count";
    }
}

static fc_status parse_number(const fc_option *option, const char *text, uint64_t *field, fc_reason *out_reason)
{
    uint64_t value;
    if (read_number(option, text, &value) && value >= option->min && value <= option->max) {
        *field = value;
        return FC_OK;
    }
    char min[32], max[32];
    format_number(option, option->min, min, sizeof min);
    format_number(option, option->max, max, sizeof max);
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "expected %s from %s to %s, got \"%.60s\"",
                   number_noun(option->type), min, max, text);
}

static bool is_url(const char *text)
{
    uint16_t port;
    if (strlen(text) >= FC_URL_BYTES)
        return false;
    if (strncmp(text, "ipc://", 6) == 0) {
        size_t path_bytes = strlen(text + 6);
        return path_bytes > 0 && path_bytes < sizeof((struct sockaddr_un *)NULL)->sun_path;
    }
    const char *tcp = strncmp(text, "tls+", 4) == 0 ? text + 4 : text, *colon = strrchr(text, ':');
    return strncmp(tcp, "tcp://", 6) == 0 && colon > tcp + 6 && fc_number_read_port(colon + 1, &port);
}

static fc_status parse_url(const char *text, fc_url_list *list, fc_reason *out_reason)
{
    if (!is_url(text))
        return fc_fail(
            FC_INVALID_ARGUMENT, out_reason,
            "expected ipc://PATH (at most %zu bytes of path), tls+tcp://HOST:PORT or tcp://HOST:PORT, got \"%.60s\"",
            sizeof((struct sockaddr_un *)NULL)->sun_path - 1, text);
    if (list->count == FC_LISTEN_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "expected at most %d of them, got one more: \"%.60s\"",
                       FC_LISTEN_MAX, text);
    memcpy(list->urls[list->count++], text, strlen(text) + 1);
    return FC_OK;
}

static fc_status parse_text(const char *text, char *field, fc_reason *out_reason)
{
    size_t bytes = strlen(text);
    if (bytes >= FC_OPTION_TEXT_BYTES)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "expected at most %d bytes, got %zu", FC_OPTION_TEXT_BYTES - 1,
                       bytes);
    memcpy(field, text, bytes + 1);
    return FC_OK;
}

/* The enum fields are read and written as what they are, whatever size the compiler gives them. */
static int word_field(const fc_option *option, const void *field)
{
    switch (option->type) {
    case FC_TYPE_ENGINE:
        return (int)*(const fc_engine_choice *)field;
    case FC_TYPE_KERNEL:
        return (int)*(const fc_kernel *)field;
    case FC_TYPE_LEVEL:
        return (int)*(const fc_log_level *)field;
    default:
        return *(const bool *)field;
    }
}

static void set_word_field(const fc_option *option, void *field, int value)
{
    switch (option->type) {
    case FC_TYPE_ENGINE:
        *(fc_engine_choice *)field = (fc_engine_choice)value;
        break;
    case FC_TYPE_KERNEL:
        *(fc_kernel *)field = (fc_kernel)value;
        break;
    case FC_TYPE_LEVEL:
        *(fc_log_level *)field = (fc_log_level)value;
        break;
    default:
        *(bool *)field = value != 0;
    }
}

static fc_status parse_word(const fc_option *option, const char *text, void *field, fc_reason *out_reason)
{
    for (const word *w = words_of(option->type); w->name != NULL; w++) {
        if (strcmp(w->name, text) == 0) {
            set_word_field(option, field, w->value);
            return FC_OK;
        }
    }
    char words[FC_OPTION_VALUE_BYTES];
    fc_option_value_range(option, words);
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "expected one of %.100s, got \"%.60s\"", words, text);
}

fc_status fc_option_value_parse(const fc_option *option, const char *text, void *field, fc_reason *out_reason)
{
    switch (option->type) {
    case FC_TYPE_COUNT:
    case FC_TYPE_BYTES:
    case FC_TYPE_DURATION:
    case FC_TYPE_MODE:
        return parse_number(option, text, field, out_reason);
    case FC_TYPE_LIST:
        return parse_url(text, field, out_reason);
    case FC_TYPE_TEXT:
        return parse_text(text, field, out_reason);
    case FC_TYPE_FLAG:
    case FC_TYPE_ENGINE:
    case FC_TYPE_KERNEL:
    case FC_TYPE_LEVEL:
        return parse_word(option, text, field, out_reason);
    }
    return fc_fail(FC_INTERNAL, out_reason, "an option type nobody knows");
}

static const char *word_name(const fc_option *option, int value)
{
    for (const word *w = words_of(option->type); w->name != NULL; w++)
        if (w->value == value)
            return w->name;
    return "unknown";
}

void fc_option_value_format(const fc_option *option, const void *field, uint32_t index,
                            char text[FC_OPTION_VALUE_BYTES])
{
    const fc_url_list *list = field;
    switch (option->type) {
    case FC_TYPE_COUNT:
    case FC_TYPE_BYTES:
    case FC_TYPE_DURATION:
    case FC_TYPE_MODE:
        format_number(option, *(const uint64_t *)field, text, FC_OPTION_VALUE_BYTES);
        return;
    case FC_TYPE_LIST:
        snprintf(text, FC_OPTION_VALUE_BYTES, "%s", index < list->count ? list->urls[index] : "");
        return;
    case FC_TYPE_TEXT:
        snprintf(text, FC_OPTION_VALUE_BYTES, "%s", (const char *)field);
        return;
    case FC_TYPE_FLAG:
    case FC_TYPE_ENGINE:
    case FC_TYPE_KERNEL:
    case FC_TYPE_LEVEL:
        snprintf(text, FC_OPTION_VALUE_BYTES, "%s", word_name(option, word_field(option, field)));
        return;
    }
    text[0] = '\0';
}

void fc_option_value_range(const fc_option *option, char text[FC_OPTION_VALUE_BYTES])
{
    text[0] = '\0';
    const word *words = words_of(option->type);
    if (words != NULL) {
        for (const word *w = words; w->name != NULL; w++) {
            size_t used = strlen(text);
            snprintf(text + used, FC_OPTION_VALUE_BYTES - used, "%s%s", used == 0 ? "" : ", ", w->name);
        }
    } else if (option->type != FC_TYPE_LIST && option->type != FC_TYPE_TEXT) {
        char min[32], max[32];
        format_number(option, option->min, min, sizeof min);
        format_number(option, option->max, max, sizeof max);
        snprintf(text, FC_OPTION_VALUE_BYTES, "%s to %s", min, max);
    }
}
