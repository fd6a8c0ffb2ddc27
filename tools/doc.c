/* docs config                                        writes deploy/flashcored.conf
 * docs metrics                                       writes docs/metrics.md
 * docs flashcored|bench_client|flashcorectl <PAGE    writes the page anew
 */
#include "tools/doc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 79

void fc_doc_wrapped(const char *prefix, const char *text)
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

void fc_doc_sentence(const char *text, char out[FC_DOC_TEXT_BYTES])
{
    snprintf(out, FC_DOC_TEXT_BYTES, "%s.", text);
    bool is_url = strstr(text, "://") != NULL && strcspn(text, " ") > strcspn(text, ":");
    if (!is_url)
        out[0] = (char)toupper((unsigned char)out[0]);
}

void fc_doc_mdoc(const char *text)
{
    while (*text != '\0') {
        char line[FC_DOC_TEXT_BYTES];
        size_t bytes = 0, used = 0;
        /* "q . k" is no end of a sentence. */
        while (text[bytes] != '\0' &&
               !(strchr(".;", text[bytes]) != NULL && text[bytes + 1] == ' ' && bytes > 0 && text[bytes - 1] != ' '))
            bytes++;
        bytes += text[bytes] != '\0';
        for (size_t i = 0; i < bytes && used + 3 < sizeof line; i++) {
            if (text[i] == '-')
                line[used++] = '\\';
            line[used++] = text[i];
        }
        line[used] = '\0';
        fc_doc_wrapped("", line);
        text += bytes + (text[bytes] == ' ');
    }
}

void fc_doc_mdoc_item(char letter, const char *name, const char *metavar)
{
    printf(".It ");
    if (letter != 0)
        printf("Fl %c , ", letter);
    printf("Fl \\-");
    for (; *name != '\0'; name++)
        fputs(*name == '-' ? "\\-" : (char[]){*name, '\0'}, stdout);
    if (metavar != NULL && metavar[0] != '\0')
        printf(" Ar %s", metavar);
    putchar('\n');
}

bool fc_doc_page(FILE *page, bool (*section)(const char *name))
{
    char line[512], name[64];
    bool is_old = false;
    while (fgets(line, sizeof line, page) != NULL) {
        if (strncmp(line, ".\\\" END", 7) == 0)
            is_old = false;
        if (!is_old)
            fputs(line, stdout);
        if (sscanf(line, ".\\\" BEGIN %63s", name) != 1)
            continue;
        is_old = true;
        if (!section(name))
            return fprintf(stderr, "docs: no section %s\n", name), false;
    }
    return !is_old;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool (*section)(const char *name);
    } PAGES[] = {{"flashcored", fc_doc_daemon_section},
                 {"bench_client", fc_doc_bench_section},
                 {"flashcorectl", fc_doc_ctl_section}};
    bool is_done = false;
    if (argc == 2 && strcmp(argv[1], "config") == 0) {
        fc_doc_config();
        is_done = true;
    }
    if (argc == 2 && strcmp(argv[1], "metrics") == 0)
        is_done = fc_doc_metrics();
    for (size_t i = 0; argc == 2 && i < sizeof PAGES / sizeof PAGES[0]; i++)
        if (strcmp(argv[1], PAGES[i].name) == 0)
            is_done = fc_doc_page(stdin, PAGES[i].section);
    if (!is_done)
        fputs("usage: docs config | docs metrics | docs flashcored|bench_client|flashcorectl <PAGE\n", stderr);
    return is_done && fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
}
