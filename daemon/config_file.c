/* The config file: `name = value` lines. The only user of inih.
 *
 * inih's handler is not told the line number by the libraries Debian ships, so lines are counted where they are read;
 * blanks in front of a line are dropped there too, because inih would take such a line as the previous one continued.
 */
#include "daemon/options.h"

#include "proto/plain_file.h"

#include <ini.h>
#include <string.h>

_Static_assert(FC_CONFIG_LINE_BYTES == INI_MAX_LINE - 2, "a line, its newline and a NUL");

typedef struct reader {
    FILE *file;
    const char *path;
    unsigned line_number;
    fc_options *options;
    fc_status status; /* the first failure, with its reason */
    fc_reason *out_reason;
} reader;

static void fail(reader *r, const char *why)
{
    if (r->status == FC_OK)
        r->status = fc_fail(FC_INVALID_ARGUMENT, r->out_reason, "%.100s:%u: %s", r->path, r->line_number, why);
}

/* One line into text, with its newline unless it is too long for that. Returns its bytes. */
static size_t take_line(reader *r, char *text, size_t capacity_bytes)
{
    size_t bytes = 0;
    bool is_over = false;
    while (!is_over && bytes + 1 < capacity_bytes) {
        int c = fgetc(r->file);
        if (c == EOF)
            break;
        text[bytes++] = (char)c;
        is_over = c == '\n' || c == '\0';
    }
    text[bytes] = '\0';
    return bytes;
}

/* A control character, which would act on the terminal an error is shown on. Lines may end as on DOS. */
static bool has_control(const char *text)
{
    size_t bytes = strcspn(text, "\r\n");
    for (size_t i = 0; i < bytes; i++) {
        if (((unsigned char)text[i] < ' ' && text[i] != '\t') || text[i] == 0x7f)
            return true;
    }
    return text[bytes] == '\r' && text[bytes + 1] != '\n' && text[bytes + 1] != '\0';
}

/* fgets() for inih; ends the file early at the first failure. */
static char *read_line(char *text, int capacity_bytes, void *context)
{
    reader *r = context;
    size_t bytes = r->status == FC_OK ? take_line(r, text, (size_t)capacity_bytes) : 0;
    if (bytes == 0)
        return NULL;
    r->line_number++;
    if (text[bytes - 1] == '\0') {
        fail(r, "expected text, got a NUL byte");
        return NULL;
    }
    if (has_control(text)) {
        fail(r, "expected text, got a control character");
        return NULL;
    }
    if (text[bytes - 1] != '\n' && bytes + 1 == (size_t)capacity_bytes) {
        fc_reason why;
        fc_fail(FC_INVALID_ARGUMENT, &why, "expected a line of at most %d bytes", capacity_bytes - 2);
        fail(r, why.text);
        return NULL;
    }
    size_t blanks = 0;
    while (text[blanks] == ' ' || text[blanks] == '\t')
        blanks++;
    memmove(text, text + blanks, bytes - blanks + 1);
    if (text[0] == '[') {
        fail(r, "expected name = value, got a section");
        return NULL;
    }
    return text;
}

/* A comment behind a value that inih would take for part of it: it ends values at " ;" alone. A path may hold a #. */
static bool has_comment(const char *value)
{
    if (value[0] == ';')
        return true;
    for (const char *hash = strchr(value, '#'); hash != NULL; hash = strchr(hash + 1, '#'))
        if (hash == value || hash[-1] == ' ' || hash[-1] == '\t')
            return true;
    return false;
}

static int take_pair(void *context, const char *section, const char *name, const char *value)
{
    reader *r = context;
    (void)section;
    fc_reason why;
    if (has_comment(value))
        fail(r, "a comment behind a value begins with a blank and ;, # takes a line of its own");
    if (r->status == FC_OK && fc_options_set(r->options, name, value, FC_FROM_FILE, &why) != FC_OK)
        fail(r, why.text);
    return 1;
}

fc_status fc_config_file_read(const char *path, fc_options *options, fc_reason *out_reason)
{
    FILE *file;
    fc_reason why;
    fc_status st = fc_plain_file_open(path, &file, &why);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "config %.100s: %s; expected a file of name = value lines", path, why.text);
    reader r = {.file = file, .path = path, .options = options, .status = FC_OK, .out_reason = out_reason};
    int first_bad_line = ini_parse_stream(read_line, &r, take_pair, &r);
    if (r.status == FC_OK && ferror(file))
        r.status = fc_fail(FC_IO, out_reason, "%.100s: cannot be read", path);
    if (r.status == FC_OK && first_bad_line > 0) {
        r.line_number = (unsigned)first_bad_line;
        fail(&r, "expected name = value");
    }
    if (r.status == FC_OK && first_bad_line < 0)
        r.status = fc_fail(FC_NO_MEMORY, out_reason, "%.100s: out of memory", path);
    fclose(file);
    return r.status;
}
