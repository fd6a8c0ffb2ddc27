/* The option table for people: --help and --check-config. */
#include "daemon/exit.h"
#include "daemon/options.h"

#include <string.h>

#define HELP_COLUMNS 80
#define HELP_INDENT 28

/* Stands for a blank where no line may break. */
#define GLUE '\1'

/* Prints words up to HELP_COLUMNS; further lines start at HELP_INDENT. column: where the cursor is. */
static void print_wrapped(FILE *out, const char *text, int column)
{
    bool is_line_start = true;
    while (*text != '\0') {
        int bytes = (int)strcspn(text, " ");
        if (!is_line_start && column + 1 + bytes > HELP_COLUMNS) {
            fprintf(out, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
            is_line_start = true;
        }
        fputs(is_line_start ? "" : " ", out);
        for (int i = 0; i < bytes; i++)
            fputc(text[i] == GLUE ? ' ' : text[i], out);
        column += bytes + (is_line_start ? 0 : 1);
        is_line_start = false;
        text += bytes + (text[bytes] == ' ');
    }
    fputc('\n', out);
}

/* "help [default 10s; 0 to 3600s]". Words need no range where the metavar lists them. */
static void describe(fc_option_id id, char *text, size_t text_bytes)
{
    const fc_option *row = fc_options_row(id);
    char range[FC_OPTION_VALUE_BYTES];
    fc_options_range(id, range);
    bool has_range = range[0] != '\0' && strchr(row->metavar, '|') == NULL;
    const char *shown = row->default_text[0] != '\0' ? row->default_text : "none";
    if (row->type == FC_TYPE_FLAG)
        snprintf(text, text_bytes, "%s", row->help);
    else if (row->type == FC_TYPE_KERNEL)
        snprintf(text, text_bytes, "%s [default %s; one of %.300s]", row->help, shown, range);
    else
        snprintf(text, text_bytes, "%s [default %s%s%.300s]", row->help, shown, has_range ? "; " : "",
                 has_range ? range : "");
    /* What is in brackets reads best in one piece, if it fits a line. */
    char *bracket = strchr(text, '[');
    if (bracket == NULL || strlen(bracket) > HELP_COLUMNS - HELP_INDENT)
        return;
    for (; *bracket != '\0'; bracket++)
        *bracket = *bracket == ' ' ? GLUE : *bracket;
}

static void print_option(FILE *out, fc_option_id id)
{
    const fc_option *row = fc_options_row(id);
    char letter[8] = "   ", text[FC_OPTION_VALUE_BYTES];
    if (row->letter != 0)
        snprintf(letter, sizeof letter, "-%c,", row->letter);
    int column = fprintf(out, "  %s --%s%s%s", letter, row->name, row->metavar[0] != '\0' ? " " : "", row->metavar);
    if (column > HELP_INDENT - 2) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", HELP_INDENT - column, "");
    describe(id, text, sizeof text);
    print_wrapped(out, text, HELP_INDENT);
}

void fc_options_print_help(FILE *out)
{
    fprintf(out,
            "flashcored %s: serves exact attention to other processes over nng\n\n"
            "Usage: flashcored [OPTION]...\n",
            FC_VERSION);
    for (int group = 0; group < FC_GROUP_COUNT; group++) {
        fprintf(out, "\n%s:\n", fc_options_group_title((fc_option_group)group));
        for (int id = 0; id < FC_OPTION_COUNT; id++)
            if (fc_options_row((fc_option_id)id)->group == (fc_option_group)group)
                print_option(out, (fc_option_id)id);
    }
    fprintf(out, "\nExit status:\n");
#define FC_EXIT_ROW(symbol, code, text)                                                                                \
    fprintf(out, "  %-*d", HELP_INDENT - 2, code);                                                                     \
    print_wrapped(out, text, HELP_INDENT);
#include "daemon/exit.def"
#undef FC_EXIT_ROW
    fprintf(out, "\nSignals: TERM and INT drain and stop, HUP reads the config file again.\n");
}

static const char *source_name(fc_option_source source)
{
    return source == FC_FROM_COMMAND_LINE ? "command line" : source == FC_FROM_FILE ? "file" : "default";
}

/* inih starts a comment at " ;". A line that would be too long for the file has the source in front of it instead. */
static void print_effective(FILE *out, const char *name, const char *value, const char *source)
{
    char line[FC_CONFIG_LINE_BYTES + 1];
    int bytes = snprintf(line, sizeof line, "%s = %-*s ; %s", name, 34 - (int)strlen(name), value, source);
    if (bytes < (int)sizeof line)
        fprintf(out, "%s\n", line);
    else
        fprintf(out, "; %s\n%s=%s\n", source, name, value);
}

void fc_options_print_effective(FILE *out, const fc_options *options)
{
    for (int i = 0; i < FC_OPTION_COUNT; i++) {
        fc_option_id id = (fc_option_id)i;
        const fc_option *row = fc_options_row(id);
        if (row->when == FC_WHEN_ONCE)
            continue;
        uint32_t count = row->type == FC_TYPE_LIST ? options->listen.count : 1;
        for (uint32_t index = 0; index < count; index++) {
            char value[FC_OPTION_VALUE_BYTES];
            fc_options_value(options, id, index, value);
            print_effective(out, row->name, value, source_name(options->sources[id]));
        }
    }
}
