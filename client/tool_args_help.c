/* The help of a command line, printed from the same rows that parse it. */
#include "client/tool_args.h"

#include <math.h>
#include <string.h>

#define FLAG_COLUMNS 28 /* where the explanations begin */

/* Stands for a blank where no line may break. */
#define GLUE '\1'

/* Prints text as words, wrapped at `width` with `indent` blanks in front of every line but the first. */
static void print_wrapped(FILE *out, const char *text, size_t column, size_t indent, size_t width)
{
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column + (column > indent) + word > width && column > indent) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        }
        if (column > indent)
            fputc(' ', out);
        for (size_t i = 0; i < word; i++)
            fputc(text[i] == GLUE ? ' ' : text[i], out);
        column += word + (column > indent ? 1 : 0);
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* The rest of an explanation that the row itself knows: "[default 1; 1 to 64]". */
static void describe_limits(const fc_arg_row *row, char *out, size_t out_bytes)
{
    char range[200] = "";
    if (row->type == FC_ARG_UINT)
        snprintf(range, sizeof range, "%.0f to %.0f", row->min, row->max);
    else if (row->type == FC_ARG_REAL && isinf(row->max))
        snprintf(range, sizeof range, "%g or more", row->min);
    else if (row->type == FC_ARG_REAL)
        snprintf(range, sizeof range, "%.10g to %.10g", row->min, row->max);
    else if (row->type == FC_ARG_TEXTS)
        snprintf(range, sizeof range, "repeatable");
    else if (row->type == FC_ARG_CHOICE)
        fc_args_choices_text(row->choices, range, sizeof range);
    bool has_default = row->default_text != NULL;
    if (range[0] == '\0' && !has_default)
        out[0] = '\0';
    else
        snprintf(out, out_bytes, " [%s%s%s%s%s]", has_default ? "default " : "", has_default ? row->default_text : "",
                 range[0] != '\0' && has_default ? "; " : "", row->type == FC_ARG_CHOICE ? "one of " : "", range);
}

static void print_option(FILE *out, const char *flags, const char *text, size_t width)
{
    size_t flag_columns = strlen(flags);
    if (flag_columns + 2 > FLAG_COLUMNS)
        fprintf(out, "%s\n%*s", flags, FLAG_COLUMNS, "");
    else
        fprintf(out, "%-*s", FLAG_COLUMNS, flags);
    print_wrapped(out, text, FLAG_COLUMNS, FLAG_COLUMNS, width);
}

static void print_row(FILE *out, const fc_arg_row *row, size_t width)
{
    char flags[96], limits[320], text[640], letter[8] = "    ";
    if (row->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", row->letter);
    snprintf(flags, sizeof flags, "  %s--%s%s%s", letter, row->name, row->metavar != NULL ? " " : "",
             row->metavar != NULL ? row->metavar : "");
    describe_limits(row, limits, sizeof limits);
    snprintf(text, sizeof text, "%s%s", row->help, limits);
    /* What is in brackets reads best in one piece, if it fits a line. */
    for (char *c = strlen(limits) <= width - FLAG_COLUMNS ? text + strlen(row->help) + 1 : ""; *c != '\0'; c++)
        *c = *c == ' ' ? GLUE : *c;
    print_option(out, flags, text, width);
}

static bool is_shown(const fc_arg_row *row, int command)
{
    return command < 0 || row->commands == 0 || (row->commands & (1u << command)) != 0;
}

static void print_rows(const fc_arg_tool *tool, int command, size_t width, FILE *out)
{
    const char *group = NULL;
    for (size_t i = 0; i < tool->row_count; i++) {
        const fc_arg_row *row = &tool->rows[i];
        if (!is_shown(row, command))
            continue;
        if (group == NULL || strcmp(group, row->group) != 0)
            fprintf(out, "\n%s:\n", row->group);
        group = row->group;
        print_row(out, row, width);
    }
    fputs("\nHelp:\n", out);
    print_option(out, "  -h, --help",
                 tool->command_count > 0 ? "this text; after a command, the command's own" : "this text", width);
    print_option(out, "  -V, --version", "the version of the tool and of its library", width);
}

void fc_args_help(const fc_arg_tool *tool, int command, size_t width_columns, FILE *out)
{
    size_t width = width_columns < 60 ? 60 : width_columns > 110 ? 110 : width_columns;
    if (command >= 0) {
        const fc_arg_command *one = &tool->commands[command];
        fprintf(out, "Usage: %s %s%s%s\n\n", tool->name, one->name, one->usage[0] != '\0' ? " " : "", one->usage);
        print_wrapped(out, one->summary, 0, 0, width);
        if (one->details != NULL)
            fputc('\n', out);
        if (one->details != NULL)
            print_wrapped(out, one->details, 0, 0, width);
        print_rows(tool, command, width, out);
        return;
    }
    fprintf(out, "Usage: %s %s\n\n", tool->name, tool->usage);
    print_wrapped(out, tool->summary, 0, 0, width);
    if (tool->command_count > 0)
        fputs("\nCommands:\n", out);
    for (size_t i = 0; i < tool->command_count; i++) {
        fprintf(out, "  %-10s", tool->commands[i].name);
        print_wrapped(out, tool->commands[i].summary, 12, 12, width);
    }
    print_rows(tool, -1, width, out);
    if (tool->closing != NULL)
        fprintf(out, "\n%s", tool->closing);
}
