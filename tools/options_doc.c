/* Build-time only: writes what is made from the option table, for `make docs`.
 *
 *     options_doc config           deploy/flashcored.conf
 *     options_doc mdoc <PAGE       PAGE with what stands between its BEGIN and END marks written anew
 */
#include "daemon/options.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 80

/* Words up to COLUMNS, each line behind the prefix. */
static void print_wrapped(const char *prefix, const char *text)
{
    int column = printf("%s", prefix);
    for (bool is_first = true; *text != '\0'; is_first = false) {
        int bytes = (int)strcspn(text, " ");
        if (!is_first && column + 1 + bytes > COLUMNS) {
            column = printf("\n%s", prefix) - 1;
            is_first = true;
        }
        column += printf("%s%.*s", is_first ? "" : " ", bytes, text);
        text += bytes + (text[bytes] == ' ');
    }
    putchar('\n');
}

/* One sentence: capital letter and full stop. */
static void make_sentence(const char *help, char *text, size_t text_bytes)
{
    snprintf(text, text_bytes, "%s.", help);
    text[0] = (char)toupper((unsigned char)text[0]);
}

static void make_range_sentence(fc_option_id id, char *text, size_t text_bytes)
{
    char range[FC_OPTION_VALUE_BYTES];
    fc_options_range(id, range);
    bool is_words = strchr(range, ',') != NULL;
    snprintf(text, text_bytes, range[0] == '\0' ? "" : is_words ? "One of %s." : "Range: %s.", range);
}

/* --- deploy/flashcored.conf ----------------------------------------------------------------------------------------
 */

static void print_config_option(fc_option_id id)
{
    const fc_option *row = fc_options_row(id);
    char text[3 * FC_OPTION_VALUE_BYTES], sentence[FC_OPTION_VALUE_BYTES], range[FC_OPTION_VALUE_BYTES];
    make_sentence(row->help, sentence, sizeof sentence);
    make_range_sentence(id, range, sizeof range);
    snprintf(text, sizeof text, "%s%s%s%s", sentence, range[0] == '\0' ? "" : " ", range,
             row->when == FC_WHEN_RELOAD ? " Reloadable." : "");
    print_wrapped("# ", text);
    printf("#%s =%s%s\n\n", row->name, row->default_text[0] == '\0' ? "" : " ", row->default_text);
}

static void print_config(void)
{
    puts("# flashcored.conf: every option with its default. Made by `make docs` from\n"
         "# daemon/options.def.\n"
         "#\n"
         "# name = value, one a line; # and ; start a comment; the command line wins over\n"
         "# this file. Sizes take K, M or G, times us, ms or s. After a change:\n"
         "#     flashcored --config FILE --check-config && systemctl reload flashcored\n"
         "# A reload applies what is called reloadable and logs what needs a restart.\n");
    for (int group = 0; group < FC_GROUP_COUNT; group++) {
        bool is_first = true;
        for (int id = 0; id < FC_OPTION_COUNT; id++) {
            const fc_option *row = fc_options_row((fc_option_id)id);
            if (row->group != (fc_option_group)group || row->when == FC_WHEN_ONCE)
                continue;
            if (is_first)
                printf("### %s\n\n", fc_options_group_title(row->group));
            is_first = false;
            print_config_option((fc_option_id)id);
        }
    }
}

/* --- docs/man/flashcored.8 -----------------------------------------------------------------------------------------
 */

/* Text for a manual page: each sentence or clause on lines of its own, hyphens stay hyphens. */
static void print_mdoc_text(const char *text)
{
    char line[FC_OPTION_VALUE_BYTES];
    while (*text != '\0') {
        size_t bytes = 0;
        while (text[bytes] != '\0' && !(strchr(".;", text[bytes]) != NULL && text[bytes + 1] == ' '))
            bytes++;
        bytes += text[bytes] != '\0';
        size_t used = 0;
        for (size_t i = 0; i < bytes && used + 2 < sizeof line; i++) {
            if (text[i] == '-')
                line[used++] = '\\';
            line[used++] = text[i];
        }
        line[used] = '\0';
        print_wrapped("", line);
        text += bytes + (text[bytes] == ' ');
    }
}

static void print_mdoc_option(fc_option_id id)
{
    const fc_option *row = fc_options_row(id);
    char text[FC_OPTION_VALUE_BYTES];
    printf(".It ");
    if (row->letter != 0)
        printf("Fl %c , ", row->letter);
    printf("Fl \\-%s", row->name);
    if (row->metavar[0] != '\0')
        printf(" Ar %s", row->metavar);
    putchar('\n');
    make_sentence(row->help, text, sizeof text);
    print_mdoc_text(text);
    if (row->type == FC_TYPE_FLAG)
        return;
    if (strchr(row->metavar, '|') == NULL) {
        make_range_sentence(id, text, sizeof text);
        if (text[0] != '\0')
            print_mdoc_text(text);
    }
    if (row->default_text[0] != '\0')
        printf("Default:\n.Li %s .\n", row->default_text);
    if (row->when == FC_WHEN_RELOAD)
        puts("Reloadable.");
}

static void print_mdoc_options(void)
{
    for (int group = 0; group < FC_GROUP_COUNT; group++) {
        printf(".Ss %s\n.Bl -tag -width Ds\n", fc_options_group_title((fc_option_group)group));
        for (int id = 0; id < FC_OPTION_COUNT; id++)
            if (fc_options_row((fc_option_id)id)->group == (fc_option_group)group)
                print_mdoc_option((fc_option_id)id);
        puts(".El");
    }
}

static void print_mdoc_exits(void)
{
    static const struct {
        int code;
        const char *help;
    } EXITS[] = {
#define FC_EXIT_ROW(symbol, code, help) {code, help},
#include "daemon/exit.def"
#undef FC_EXIT_ROW
    };
    puts(".Bl -tag -width Ds");
    for (size_t i = 0; i < sizeof EXITS / sizeof EXITS[0]; i++) {
        char text[FC_OPTION_VALUE_BYTES];
        printf(".It %d\n", EXITS[i].code);
        make_sentence(EXITS[i].help, text, sizeof text);
        print_mdoc_text(text);
    }
    puts(".El");
}

static void copy_page(FILE *page)
{
    char line[512];
    bool is_old = false;
    while (fgets(line, sizeof line, page) != NULL) {
        if (strncmp(line, ".\\\" END", 7) == 0)
            is_old = false;
        if (!is_old)
            fputs(line, stdout);
        if (strncmp(line, ".\\\" BEGIN", 9) != 0)
            continue;
        is_old = true;
        if (strstr(line, "options") != NULL)
            print_mdoc_options();
        else
            print_mdoc_exits();
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "config") == 0)
        print_config();
    else if (argc == 2 && strcmp(argv[1], "mdoc") == 0)
        copy_page(stdin);
    else
        return fputs("usage: options_doc config | options_doc mdoc <PAGE\n", stderr), EXIT_FAILURE;
    return ferror(stdout) || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
