/* From daemon/options.def and daemon/exit.def: the sample config, and flashcored(8)'s options and exit codes. */
#include "daemon/options.h"
#include "tools/doc.h"

#include <string.h>

static void make_range_sentence(fc_option_id id, char out[FC_DOC_TEXT_BYTES])
{
    char range[FC_OPTION_VALUE_BYTES];
    fc_options_range(id, range);
    bool is_words = strchr(range, ',') != NULL;
    snprintf(out, FC_DOC_TEXT_BYTES, range[0] == '\0' ? "" : is_words ? "One of %s." : "Range: %s.", range);
}

/* --- deploy/flashcored.conf --------------------------------------------------------------------------------------- */

static void print_config_option(fc_option_id id)
{
    const fc_option *row = fc_options_row(id);
    char text[3 * FC_DOC_TEXT_BYTES], sentence[FC_DOC_TEXT_BYTES], range[FC_DOC_TEXT_BYTES];
    fc_doc_sentence(row->help, sentence);
    make_range_sentence(id, range);
    snprintf(text, sizeof text, "%s%s%s%s", sentence, range[0] == '\0' ? "" : " ", range,
             row->when == FC_WHEN_RELOAD ? " Reloadable." : "");
    fc_doc_wrapped("# ", text);
    printf("#%s =%s%s\n\n", row->name, row->default_text[0] == '\0' ? "" : " ", row->default_text);
}

void fc_doc_config(void)
{
    puts("# flashcored.conf: every option with its default. Made by `make docs` from\n"
         "# daemon/options.def.\n"
         "#\n"
         "# name = value, one a line; # and ; start a comment, behind a value ; alone; the\n"
         "# command line wins over this file. Sizes take K, M or G, times us, ms or s. After a change:\n"
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

/* --- flashcored(8) ------------------------------------------------------------------------------------------------ */

static void print_option(fc_option_id id)
{
    const fc_option *row = fc_options_row(id);
    char text[FC_DOC_TEXT_BYTES];
    fc_doc_mdoc_item(row->letter, row->name, row->metavar);
    fc_doc_sentence(row->help, text);
    fc_doc_mdoc(text);
    if (row->type == FC_TYPE_FLAG)
        return;
    make_range_sentence(id, text);
    if (strchr(row->metavar, '|') == NULL)
        fc_doc_mdoc(text);
    if (row->default_text[0] != '\0')
        printf("Default:\n.Li %s .\n", row->default_text);
    if (row->when == FC_WHEN_RELOAD)
        puts("Reloadable.");
}

static void print_options(void)
{
    for (int group = 0; group < FC_GROUP_COUNT; group++) {
        printf(".Ss %s\n.Bl -tag -width Ds\n", fc_options_group_title((fc_option_group)group));
        for (int id = 0; id < FC_OPTION_COUNT; id++)
            if (fc_options_row((fc_option_id)id)->group == (fc_option_group)group)
                print_option((fc_option_id)id);
        puts(".El");
    }
}

static void print_exits(void)
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
        char text[FC_DOC_TEXT_BYTES];
        printf(".It %d\n", EXITS[i].code);
        fc_doc_sentence(EXITS[i].help, text);
        fc_doc_mdoc(text);
    }
    puts(".El");
}

bool fc_doc_daemon_section(const char *name)
{
    if (strcmp(name, "options") == 0)
        print_options();
    else if (strcmp(name, "exit") == 0)
        print_exits();
    else
        return false;
    return true;
}
