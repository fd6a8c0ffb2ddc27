/* Build-time only: `make docs` writes anew what the sample config and the manual pages take from the option tables.
 *
 * A page is copied; what stands between a line `.\" BEGIN name` and the next `.\" END` is replaced by that section.
 */
#ifndef FC_TOOLS_DOC_H
#define FC_TOOLS_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define FC_DOC_TEXT_BYTES 2048

/* Prints words up to 79 columns, each line behind the prefix. */
void fc_doc_wrapped(const char *prefix, const char *text);

/* One sentence: capital letter and full stop. */
void fc_doc_sentence(const char *text, char out[FC_DOC_TEXT_BYTES]);

/* Text for a manual page: each sentence or clause begins a line, hyphens stay hyphens, nothing reads as a request. */
void fc_doc_mdoc(const char *text);

/* ".It Fl l , Fl \-listen Ar URL"; letter 0: none; metavar NULL or "": none. */
void fc_doc_mdoc_item(char letter, const char *name, const char *metavar);

/* Copies page to standard output. section() prints the named one and answers whether it knows it. */
bool fc_doc_page(FILE *page, bool (*section)(const char *name));

/* doc_daemon.c, doc_metrics.c and doc_tools.c */
void fc_doc_config(void);
bool fc_doc_metrics(void);
bool fc_doc_daemon_section(const char *name);
bool fc_doc_bench_section(const char *name);
bool fc_doc_ctl_section(const char *name);

#endif
