/* Command lines from one table a tool: options, their help, their defaults and their errors all come from its rows.
 *
 * Pure but for getopt's own globals: one thread. Values are written into the tool's options struct at each row's
 * offset; texts point into argv. Nothing here prints but fc_args_help(), and nothing exits.
 */
#ifndef FC_CLIENT_TOOL_ARGS_H
#define FC_CLIENT_TOOL_ARGS_H

#include "proto/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define FC_ARG_LIST_MAX 1024 /* numbers in one list: kv_len of a large batch */
#define FC_ARG_TEXTS_MAX 16  /* times a repeatable option can be given */

/* What an option's value is, and the type of the field at the row's offset. */
typedef enum fc_arg_type {
    FC_ARG_FLAG,   /* bool; no value */
    FC_ARG_TEXT,   /* const char * */
    FC_ARG_TEXTS,  /* fc_arg_texts; repeatable */
    FC_ARG_UINT,   /* uint64_t in [min, max] */
    FC_ARG_REAL,   /* double in [min, max], finite */
    FC_ARG_CHOICE, /* int: the index in `choices` */
    FC_ARG_INTS    /* fc_arg_ints: count_min to count_max comma-separated integers in [min, max] */
} fc_arg_type;

typedef struct fc_arg_texts {
    const char *items[FC_ARG_TEXTS_MAX];
    size_t count;
} fc_arg_texts;

typedef struct fc_arg_ints {
    int64_t items[FC_ARG_LIST_MAX];
    size_t count;
} fc_arg_ints;

typedef struct fc_arg_row {
    const char *name; /* without the dashes */
    char letter;      /* one-letter form, 0: none */
    fc_arg_type type;
    const char *metavar;      /* what help shows for the value; NULL for flags */
    size_t offset;            /* of the field in the options struct */
    const char *default_text; /* parsed like a given value; NULL: the field keeps what the caller put there */
    double min, max;
    uint32_t count_min, count_max; /* FC_ARG_INTS, FC_ARG_TEXTS (max only) */
    const char *choices;           /* FC_ARG_CHOICE: "none|top_left|bottom_right", a bar at the end is fine */
    uint32_t commands;             /* bit i: an option of command i; 0: of every one */
    const char *group;             /* heading in the help */
    const char *help;
} fc_arg_row;

typedef struct fc_arg_command {
    const char *name;
    const char *usage; /* what follows the command's name; where it begins with a CAPITAL, one word that is required */
    const char *summary; /* one line */
    const char *details; /* running text, in the help of the command alone; may be NULL */
} fc_arg_command;

typedef struct fc_arg_tool {
    const char *name;
    const char *usage; /* what follows the tool's name */
    const char *summary;
    const fc_arg_command *commands; /* NULL: the tool has none and takes no words */
    size_t command_count;
    size_t word_offset; /* const char *: where a command's word goes */
    const fc_arg_row *rows;
    size_t row_count;
    const char *closing; /* examples, environment, exit codes; printed as it is */
} fc_arg_tool;

typedef enum fc_args_outcome { FC_ARGS_RUN, FC_ARGS_HELP, FC_ARGS_VERSION, FC_ARGS_WRONG } fc_args_outcome;

/* Applies the defaults, then argv. *out_command: the command's index, -1 when none was given (HELP and VERSION, or a
 * tool without commands). WRONG: the reason says which option, what was expected and what was found; options may be
 * half filled. --help and --version (-h, -V) are added to every table. */
fc_args_outcome fc_args_parse(const fc_arg_tool *tool, int argc, char *const *argv, void *options, int *out_command,
                              fc_reason *out_reason);

/* Prints the help of the tool (command < 0) or of one command, wrapped at width_columns. */
void fc_args_help(const fc_arg_tool *tool, int command, size_t width_columns, FILE *out);

/* "none, top_left, bottom_right", whole words, as many as fit. */
void fc_args_choices_text(const char *choices, char *out, size_t out_bytes);

/* The text of choice `index` of a row's choices into out (cut to fit); "" outside the list. */
void fc_args_choice(const char *choices, int index, char *out, size_t out_bytes);

#endif
