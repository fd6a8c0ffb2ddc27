/* Numbers and tables for a person at a terminal. */
#include "client/tool_text.h"

#include <assert.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

fc_text fc_text_count(uint64_t count)
{
    char digits[24];
    fc_text out;
    size_t length = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            out.text[used++] = ',';
        out.text[used++] = digits[i];
    }
    out.text[used] = '\0';
    return out;
}

fc_text fc_text_bytes(uint64_t bytes)
{
    static const char *const UNITS[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024.0 && unit + 1 < sizeof UNITS / sizeof UNITS[0]) {
        value /= 1024.0;
        unit++;
    }
    fc_text out;
    snprintf(out.text, sizeof out.text, unit == 0 ? "%.0f %s" : value < 10 ? "%.2f %s" : "%.1f %s", value, UNITS[unit]);
    return out;
}

/* Three significant digits, never more than the number of them before the point. */
static int decimals(double value)
{
    return value < 10 ? 2 : value < 100 ? 1 : 0;
}

fc_text fc_text_us(double us)
{
    fc_text out;
    if (!isfinite(us))
        snprintf(out.text, sizeof out.text, "-");
    else if (us == 0)
        snprintf(out.text, sizeof out.text, "0");
    else if (fabs(us) < 999.5)
        snprintf(out.text, sizeof out.text, "%.*f us", decimals(fabs(us)), us);
    else if (fabs(us) < 999500)
        snprintf(out.text, sizeof out.text, "%.*f ms", decimals(fabs(us) / 1e3), us / 1e3);
    else
        snprintf(out.text, sizeof out.text, "%.*f s", decimals(fabs(us) / 1e6), us / 1e6);
    return out;
}

fc_text fc_text_rate(double per_second)
{
    if (isfinite(per_second) && per_second >= 100 && per_second < 1e18)
        return fc_text_count((uint64_t)llround(per_second));
    fc_text out;
    snprintf(out.text, sizeof out.text, "%.*f", isfinite(per_second) ? decimals(per_second) : 0, per_second);
    return out;
}

size_t fc_text_columns(const char *text)
{
    size_t columns = 0;
    for (; *text != '\0'; text++)
        columns += ((unsigned char)*text & 0xc0u) != 0x80u;
    return columns;
}

bool fc_text_use_locale(void)
{
    /* LC_CTYPE alone: a decimal comma would break every JSON and SVG file. */
    setlocale(LC_CTYPE, "");
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

size_t fc_text_terminal_columns(FILE *stream, size_t fallback)
{
    struct winsize size;
    if (isatty(fileno(stream)) && ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *columns = getenv("COLUMNS");
    long value = columns != NULL ? strtol(columns, NULL, 10) : 0;
    return value >= 20 && value <= 1000 ? (size_t)value : fallback;
}

void fc_text_bar(double share, size_t columns, bool is_utf8, char out[FC_BAR_BYTES])
{
    /* U+2588 down to U+258F: a full block, then seven eighths to one. */
    static const char *const EIGHTHS[] = {"",
                                          "\xe2\x96\x8f",
                                          "\xe2\x96\x8e",
                                          "\xe2\x96\x8d",
                                          "\xe2\x96\x8c",
                                          "\xe2\x96\x8b",
                                          "\xe2\x96\x8a",
                                          "\xe2\x96\x89",
                                          "\xe2\x96\x88"};
    if (columns > FC_BAR_COLUMNS_MAX)
        columns = FC_BAR_COLUMNS_MAX;
    double clamped = !(share > 0) ? 0 : share > 1 ? 1 : share;
    size_t eighths = (size_t)llround(clamped * (double)columns * 8);
    if (eighths == 0 && clamped > 0)
        eighths = 1;
    char *end = out;
    if (!is_utf8) {
        size_t full = (eighths + 4) / 8;
        memset(out, '#', full);
        end += full;
        if (full == 0 && clamped > 0)
            *end++ = '|';
    }
    for (; is_utf8 && eighths > 0; eighths -= eighths < 8 ? eighths : 8)
        end = stpcpy(end, EIGHTHS[eighths < 8 ? eighths : 8]);
    *end = '\0';
}

void fc_table_init(fc_table *table, const char *align)
{
    table->columns = strlen(align);
    assert(table->columns >= 1 && table->columns <= FC_TABLE_COLUMNS_MAX);
    memcpy(table->align, align, table->columns);
    table->rows = 0;
}

static void add_row(fc_table *table, const char *line, bool is_heading)
{
    if (table->rows == FC_TABLE_ROWS_MAX)
        return;
    size_t row = table->rows++;
    table->is_heading[row] = is_heading;
    for (size_t column = 0; column < table->columns; column++) {
        size_t bytes = strcspn(line, "|");
        snprintf(table->cells[row][column], FC_TABLE_CELL_BYTES, "%.*s", (int)bytes, line);
        line += bytes + (line[bytes] == '|');
    }
}

void fc_table_row(fc_table *table, const char *format, ...)
{
    char line[FC_TABLE_COLUMNS_MAX * FC_TABLE_CELL_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    add_row(table, line, false);
}

void fc_table_heading(fc_table *table, const char *titles)
{
    add_row(table, titles, true);
}

static void print_blanks(size_t count, FILE *out)
{
    while (count-- > 0)
        fputc(' ', out);
}

static void print_row(const fc_table *table, size_t row, const size_t *widths, FILE *out)
{
    size_t owed = 0; /* blanks not printed yet: none go at a line's end */
    for (size_t column = 0; column < table->columns; column++) {
        const char *cell = table->cells[row][column];
        size_t blanks = widths[column] - fc_text_columns(cell);
        owed += 2 + (table->align[column] == 'r' ? blanks : 0);
        if (cell[0] != '\0') {
            print_blanks(owed, out);
            fputs(cell, out);
            owed = table->align[column] == 'r' ? 0 : blanks;
        } else {
            owed += table->align[column] == 'r' ? 0 : blanks;
        }
    }
    fputc('\n', out);
}

void fc_table_print(const fc_table *table, const char *line, FILE *out)
{
    size_t widths[FC_TABLE_COLUMNS_MAX] = {0};
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t column = 0; column < table->columns; column++) {
            size_t columns = fc_text_columns(table->cells[row][column]);
            if (columns > widths[column])
                widths[column] = columns;
        }
    }
    for (size_t row = 0; row < table->rows; row++) {
        print_row(table, row, widths, out);
        for (size_t column = 0; table->is_heading[row] && column < table->columns; column++) {
            print_blanks(widths[column] > 0 ? 2 : 0, out);
            for (size_t i = 0; i < widths[column]; i++)
                fputs(line, out);
        }
        if (table->is_heading[row])
            fputc('\n', out);
    }
}
