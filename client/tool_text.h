/* Numbers and tables for a person at a terminal.
 *
 * Pure but for the two that look at the terminal and the locale; any thread. Times are microseconds.
 */
#ifndef FC_CLIENT_TOOL_TEXT_H
#define FC_CLIENT_TOOL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define FC_TEXT_BYTES 32 /* enough for every number below, NUL included */

typedef struct fc_text {
    char text[FC_TEXT_BYTES];
} fc_text;

fc_text fc_text_count(uint64_t count);   /* "1,234,567" */
fc_text fc_text_bytes(uint64_t bytes);   /* "1.50 MiB" */
fc_text fc_text_us(double us);           /* "640 us", "12.3 ms", "2.50 s"; "-" when not finite */
fc_text fc_text_rate(double per_second); /* three significant digits and more: "1,234", "12.3" */

/* Columns a UTF-8 text takes, counting every code point as one. */
size_t fc_text_columns(const char *text);

/* Takes the character set (nothing else) from the environment: is it UTF-8? Call once, before threads. */
bool fc_text_use_locale(void);

/* Columns of the terminal behind stream; without one $COLUMNS, else fallback. */
size_t fc_text_terminal_columns(FILE *stream, size_t fallback);

#define FC_BAR_BYTES 400 /* holds a bar of FC_BAR_COLUMNS_MAX columns, NUL included */
#define FC_BAR_COLUMNS_MAX 120

/* A bar of share (0 to 1, clamped) of `columns`, to an eighth of a column in UTF-8; never empty for a share above 0. */
void fc_text_bar(double share, size_t columns, bool is_utf8, char out[FC_BAR_BYTES]);

/* --- tables ------------------------------------------------------------------------------------------------------ */

#define FC_TABLE_COLUMNS_MAX 8
#define FC_TABLE_ROWS_MAX 96
#define FC_TABLE_CELL_BYTES 100

/* A table that is printed at once, so that columns fit what is in them. Large: keep it static or on the heap of one
 * thread. */
typedef struct fc_table {
    size_t columns, rows;
    char align[FC_TABLE_COLUMNS_MAX]; /* 'l' or 'r' */
    char cells[FC_TABLE_ROWS_MAX][FC_TABLE_COLUMNS_MAX][FC_TABLE_CELL_BYTES];
    bool is_heading[FC_TABLE_ROWS_MAX];
} fc_table;

/* align: one letter a column, "lrr". */
void fc_table_init(fc_table *table, const char *align);

/* Adds a row of cells, one format "a|b|c" printed and cut at its bars; missing cells are empty. Rows past the maximum
 * are dropped. A heading is underlined. */
void fc_table_row(fc_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fc_table_heading(fc_table *table, const char *titles);

/* Prints it, two blanks before and between the columns; line: what headings are underlined with, "-" or a UTF-8 rule.
 */
void fc_table_print(const fc_table *table, const char *line, FILE *out);

#endif
