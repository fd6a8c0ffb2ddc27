/* What the daemon was told: flags, config file and defaults, from one table (options.def).
 *
 * struct fc_options is a plain value without pointers: copy it freely. The command line wins over the file, the file
 * over the defaults; an option repeated in one source is the last one given, but for `listen`, which collects. Nothing
 * here allocates. Parse on the main thread (getopt and inih keep static state).
 */
#ifndef FC_DAEMON_OPTIONS_H
#define FC_DAEMON_OPTIONS_H

#include "daemon/clock.h"
#include "daemon/log.h"
#include "kernels/attention.h"
#include "proto/status.h"

#include <stdio.h>
#include <sys/types.h>

#define FC_OPTION_TEXT_BYTES 1024 /* a path, NUL included */
#define FC_LISTEN_MAX 16
#define FC_URL_BYTES 160 /* NUL included; an ipc path holds at most 107 */

typedef enum fc_engine_choice { FC_ENGINE_CHOICE_AUTO, FC_ENGINE_CHOICE_CUDA, FC_ENGINE_CHOICE_CPU } fc_engine_choice;

typedef struct fc_url_list {
    uint32_t count;
    char urls[FC_LISTEN_MAX][FC_URL_BYTES];
} fc_url_list;

typedef char fc_option_text[FC_OPTION_TEXT_BYTES];

typedef enum fc_option_id {
#define FC_OPTION(field, ...) FC_OPTION_##field,
#include "daemon/options.def"
#undef FC_OPTION
    FC_OPTION_COUNT
} fc_option_id;

/* Who set an option. */
typedef enum fc_option_source { FC_FROM_DEFAULT, FC_FROM_FILE, FC_FROM_COMMAND_LINE } fc_option_source;

typedef struct fc_options {
#define FC_OPTION_FIELD_FLAG bool
#define FC_OPTION_FIELD_COUNT uint64_t
#define FC_OPTION_FIELD_BYTES uint64_t
#define FC_OPTION_FIELD_DURATION uint64_t
#define FC_OPTION_FIELD_MODE uint64_t
#define FC_OPTION_FIELD_TEXT fc_option_text
#define FC_OPTION_FIELD_LIST fc_url_list
#define FC_OPTION_FIELD_ENGINE fc_engine_choice
#define FC_OPTION_FIELD_KERNEL fc_kernel
#define FC_OPTION_FIELD_LEVEL fc_log_level
#define FC_OPTION(field, name, letter, type, ...) FC_OPTION_FIELD_##type field;
#include "daemon/options.def"
#undef FC_OPTION
    fc_option_source sources[FC_OPTION_COUNT];
} fc_options;

/* The defaults, with lane_staging_bytes still 0. */
void fc_options_defaults(fc_options *out_options);

/* Defaults, then the file named by --config, then argv; then what depends on other options is checked and
 * lane_staging_bytes is worked out. FC_INVALID_ARGUMENT or FC_IO with a reason that names the flag, or file and line,
 * what was expected and what was there. Call it again with the same argv to re-read the file. argv is permuted. With
 * --help or --version among the flags, the file is not read. */
fc_status fc_options_parse(int argc, char **argv, fc_options *out_options, fc_reason *out_reason);

/* Sets one option from its text; the caller names the place in front of the reason. Unknown names get the nearest one
 * suggested. `source` lower than the one that set it already is ignored after the check. */
fc_status fc_options_set(fc_options *options, const char *name, const char *value, fc_option_source source,
                         fc_reason *out_reason);

/* Reads `name = value` lines through fc_options_set(). Implemented by config_file.c, the only user of inih. */
fc_status fc_config_file_read(const char *path, fc_options *options, fc_reason *out_reason);

/* Takes over into `current` what a reload can change of `fresh`; calls changed() for each option that differs, with
 * its value as text. is_applied false: it needs a restart, and current keeps the old value. */
typedef void (*fc_option_changed)(void *context, const char *name, const char *value, bool is_applied);
void fc_options_reload(fc_options *current, const fc_options *fresh, fc_option_changed changed, void *context);

/* The table, for whoever prints it. */
typedef enum fc_option_type {
    FC_TYPE_FLAG,
    FC_TYPE_COUNT,
    FC_TYPE_BYTES,
    FC_TYPE_DURATION,
    FC_TYPE_MODE,
    FC_TYPE_TEXT,
    FC_TYPE_LIST,
    FC_TYPE_ENGINE,
    FC_TYPE_KERNEL,
    FC_TYPE_LEVEL
} fc_option_type;

typedef enum fc_option_when { FC_WHEN_ONCE, FC_WHEN_START, FC_WHEN_RELOAD } fc_option_when;

typedef enum fc_option_group {
#define FC_OPTION_GROUP(symbol, title) FC_GROUP_##symbol,
#include "daemon/options.def"
#undef FC_OPTION_GROUP
    FC_GROUP_COUNT
} fc_option_group;

typedef struct fc_option {
    const char *name;
    char letter; /* 0: none */
    fc_option_type type;
    const char *default_text;
    uint64_t min, max; /* numeric types */
    fc_option_when when;
    fc_option_group group;
    const char *metavar, *help;
    size_t field_offset, field_bytes;
} fc_option;

const fc_option *fc_options_row(fc_option_id id);
const char *fc_options_group_title(fc_option_group group);

/* The value as a user would write it ("64M", "10s", "auto"); of a list the index-th. Returns text. */
#define FC_OPTION_VALUE_BYTES FC_OPTION_TEXT_BYTES
const char *fc_options_value(const fc_options *options, fc_option_id id, uint32_t index,
                             char text[FC_OPTION_VALUE_BYTES]);

/* "0 to 64", "1ms to 60s", "auto, cpu, baseline" or "" where there is nothing to say. Returns text. */
const char *fc_options_range(fc_option_id id, char text[FC_OPTION_VALUE_BYTES]);

/* --help: groups, defaults, ranges, exit codes; 80 columns. */
void fc_options_print_help(FILE *out);

#define FC_CONFIG_LINE_BYTES 198 /* the longest of the file, newline not counted: inih's, as it is built by default */

/* --check-config: every option the file knows, in effect, as lines the file could hold, with where it comes from. */
void fc_options_print_effective(FILE *out, const fc_options *options);

#endif
