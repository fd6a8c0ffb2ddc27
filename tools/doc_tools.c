/* From the tools' own tables: options, commands, examples, environment and exit codes of bench_client(1) and
 * flashcorectl(1).
 */
#include "client/bench_options.h"
#include "client/ctl_options.h"
#include "tools/doc.h"

#include <math.h>
#include <string.h>

static void print_range(const fc_arg_row *row)
{
    char range[FC_DOC_TEXT_BYTES] = "", text[FC_DOC_TEXT_BYTES];
    bool is_number = row->type == FC_ARG_UINT || row->type == FC_ARG_REAL;
    if (row->type == FC_ARG_CHOICE)
        fc_args_choices_text(row->choices, range, sizeof range);
    if (row->type == FC_ARG_CHOICE)
        snprintf(text, sizeof text, "One of %.1000s.", range);
    else if (is_number && isinf(row->max))
        snprintf(text, sizeof text, "%g or more.", row->min);
    else if (is_number)
        snprintf(text, sizeof text, "Range: %.10g to %.10g.", row->min, row->max);
    else
        text[0] = '\0';
    fc_doc_mdoc(text);
}

static void print_commands_of(const fc_arg_tool *tool, const fc_arg_row *row)
{
    char text[FC_DOC_TEXT_BYTES] = "";
    if (row->commands == 0)
        return;
    for (size_t i = 0; i < tool->command_count; i++) {
        size_t used = strlen(text);
        if ((row->commands & 1u << i) != 0)
            snprintf(text + used, sizeof text - used, "%s%s", used == 0 ? "Commands: " : ", ", tool->commands[i].name);
    }
    strncat(text, ".", sizeof text - strlen(text) - 1);
    fc_doc_mdoc(text);
}

static void print_row(const fc_arg_tool *tool, const fc_arg_row *row)
{
    char text[FC_DOC_TEXT_BYTES];
    fc_doc_mdoc_item(row->letter, row->name, row->metavar);
    fc_doc_sentence(row->help, text);
    fc_doc_mdoc(text);
    print_range(row);
    if (row->default_text != NULL)
        printf("Default:\n.Li %s .\n", row->default_text);
    if (row->type == FC_ARG_TEXTS)
        puts("May be repeated.");
    print_commands_of(tool, row);
}

static void print_options(const fc_arg_tool *tool)
{
    const char *group = "";
    for (size_t i = 0; i < tool->row_count; i++) {
        const fc_arg_row *row = &tool->rows[i];
        if (strcmp(group, row->group) != 0)
            printf("%s.Ss %s\n.Bl -tag -width Ds\n", i == 0 ? "" : ".El\n", row->group);
        group = row->group;
        print_row(tool, row);
    }
    puts(".El");
}

static void print_commands(const fc_arg_tool *tool)
{
    puts(".Bl -tag -width Ds");
    for (size_t i = 0; i < tool->command_count; i++) {
        printf(".It Cm %s\n", tool->commands[i].name);
        fc_doc_mdoc(tool->commands[i].summary);
        if (tool->commands[i].details != NULL)
            fc_doc_mdoc(tool->commands[i].details);
    }
    puts(".El");
}

/* The closing text's part under "Title:", whose lines are indented by two; NULL when there is none. */
static const char *find_part(const fc_arg_tool *tool, const char *title)
{
    const char *part = strstr(tool->closing, title);
    return part == NULL ? NULL : part + strlen(title);
}

static void print_examples(const char *part)
{
    puts(".Bd -literal");
    while (strncmp(part, "  ", 2) == 0) {
        int bytes = (int)strcspn(part, "\n");
        printf("%.*s\n", bytes - 2, part + 2);
        part += bytes + (part[bytes] == '\n');
    }
    puts(".Ed");
}

/* Of an entry: up to the newline that no deeper indented line follows. */
static int entry_bytes(const char *part)
{
    const char *end = strchr(part, '\n');
    while (end != NULL && strncmp(end, "\n   ", 4) == 0)
        end = strchr(end + 1, '\n');
    return end != NULL ? (int)(end - part) : (int)strlen(part);
}

/* Lines broken for a terminal become running text. */
static void join_lines(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        *to++ = *from == '\n' ? ' ' : *from;
        from += *from == '\n' ? strspn(from + 1, " ") : 0;
    }
    *to = '\0';
}

/* Entries "  WORD  explanation", their further lines indented deeper. */
static void print_list(const char *part, const char *macro)
{
    puts(".Bl -tag -width Ds");
    while (strncmp(part, "  ", 2) == 0) {
        char text[FC_DOC_TEXT_BYTES], sentence[FC_DOC_TEXT_BYTES];
        int bytes = entry_bytes(part), word_bytes = (int)strcspn(part + 2, " ");
        printf(".It %s%.*s\n", macro, word_bytes, part + 2);
        int blanks = (int)strspn(part + 2 + word_bytes, " ");
        snprintf(text, sizeof text, "%.*s", bytes - 2 - word_bytes - blanks, part + 2 + word_bytes + blanks);
        join_lines(text);
        fc_doc_sentence(text, sentence);
        fc_doc_mdoc(sentence);
        part += bytes + (part[bytes] == '\n');
    }
    puts(".El");
}

static bool print_section(const fc_arg_tool *tool, const char *name)
{
    const char *examples = find_part(tool, "Examples:\n"), *exits = find_part(tool, "Exit status:\n");
    const char *environment = find_part(tool, "Environment:\n");
    if (strcmp(name, "options") == 0)
        print_options(tool);
    else if (strcmp(name, "commands") == 0)
        print_commands(tool);
    else if (strcmp(name, "examples") == 0 && examples != NULL)
        print_examples(examples);
    else if (strcmp(name, "environment") == 0 && environment != NULL)
        print_list(environment, "Ev ");
    else if (strcmp(name, "exit") == 0 && exits != NULL)
        print_list(exits, "");
    else
        return false;
    return true;
}

bool fc_doc_bench_section(const char *name)
{
    return print_section(&FC_BENCH_TOOL, name);
}

bool fc_doc_ctl_section(const char *name)
{
    return print_section(&FC_CTL_TOOL, name);
}
