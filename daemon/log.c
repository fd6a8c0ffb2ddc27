/* Formats a line on the stack and writes it at once. Never allocates, never waits for another thread. */
#include "daemon/log.h"

#include "daemon/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    int priority;
} LEVELS[FC_LOG_LEVEL_COUNT] = {
#define LEVEL_ROW(symbol, name, priority, what) [symbol] = {name, priority},
    FC_LOG_LEVELS(LEVEL_ROW)
#undef LEVEL_ROW
};

/* Set before threads start; the level alone changes later. */
static struct {
    atomic_int level;
    int fd;
    bool is_journal;
    uint64_t start_ns;
} log_state = {.level = FC_LOG_INFO, .fd = STDERR_FILENO};

/* The line so far. Two bytes stay free for the newline and a NUL; overflow is remembered, not written. */
typedef struct line {
    size_t used_bytes;
    bool is_cut;
    char text[FC_LOG_LINE_BYTES];
} line;

static bool is_journal_stream(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uint64_t device, inode;
    struct stat st;
    if (stream == NULL || sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) != 2)
        return false;
    return fstat(fd, &st) == 0 && (uint64_t)st.st_dev == device && (uint64_t)st.st_ino == inode;
}

void fc_log_start(int fd, fc_log_level level)
{
    log_state.fd = fd;
    log_state.is_journal = is_journal_stream(fd);
    log_state.start_ns = fc_clock_now_ns();
    fc_log_set_level(level);
}

void fc_log_set_level(fc_log_level level)
{
    atomic_store_explicit(&log_state.level, (int)level, memory_order_relaxed);
}

bool fc_log_is_on(fc_log_level level)
{
    return (int)level <= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

static void append(line *out, const char *bytes, size_t size_bytes)
{
    if (out->is_cut || size_bytes > sizeof out->text - 2 - out->used_bytes) {
        out->is_cut = true;
        return;
    }
    memcpy(out->text + out->used_bytes, bytes, size_bytes);
    out->used_bytes += size_bytes;
}

static void append_format(line *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append_format(line *out, const char *format, ...)
{
    char text[64];
    va_list args;
    va_start(args, format);
    int bytes = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    append(out, text, bytes < 0 ? 0 : (size_t)bytes < sizeof text ? (size_t)bytes : sizeof text - 1);
}

static bool is_plain(unsigned char c)
{
    return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '=';
}

static bool needs_quotes(const char *text)
{
    if (text[0] == '\0')
        return true;
    for (; *text != '\0'; text++)
        if (!is_plain((unsigned char)*text))
            return true;
    return false;
}

static void append_escaped(line *out, unsigned char c)
{
    if (c == '"' || c == '\\')
        append_format(out, "\\%c", c);
    else if (c == '\n')
        append(out, "\\n", 2);
    else if (c < ' ' || c >= 0x7f)
        append_format(out, "\\x%02x", c);
    else
        append(out, (const char *)&c, 1);
}

static void append_value(line *out, const char *text)
{
    if (text == NULL)
        text = "";
    if (!needs_quotes(text)) {
        append(out, text, strlen(text));
        return;
    }
    append(out, "\"", 1);
    for (; *text != '\0'; text++)
        append_escaped(out, (unsigned char)*text);
    append(out, "\"", 1);
}

static void append_field(line *out, const fc_log_field *field)
{
    if (field->kind == FC_LOG_FIELD_NONE)
        return;
    append(out, " ", 1);
    append(out, field->key, strlen(field->key));
    append(out, "=", 1);
    switch (field->kind) {
    case FC_LOG_FIELD_TEXT:
        append_value(out, field->text);
        break;
    case FC_LOG_FIELD_UINT:
        append_format(out, "%" PRIu64, field->uint_value);
        break;
    case FC_LOG_FIELD_INT:
        append_format(out, "%" PRId64, field->int_value);
        break;
    case FC_LOG_FIELD_REAL:
        append_format(out, "%.6g", field->real_value);
        break;
    case FC_LOG_FIELD_NONE:
        break;
    }
}

static void finish(line *out)
{
    static const char MARK[] = "...";
    if (out->is_cut) {
        size_t room = sizeof out->text - 2 - (sizeof MARK - 1);
        if (out->used_bytes > room)
            out->used_bytes = room;
        memcpy(out->text + out->used_bytes, MARK, sizeof MARK - 1);
        out->used_bytes += sizeof MARK - 1;
    }
    out->text[out->used_bytes++] = '\n';
}

void fc_log_write(fc_log_level level, const char *event, const fc_log_field *fields, size_t field_count)
{
    int saved_errno = errno;
    line out = {.used_bytes = 0};
    if (log_state.is_journal)
        append_format(&out, "<%d>", LEVELS[level].priority);
    else
        append_format(&out, "t=%.6f ", (double)(fc_clock_now_ns() - log_state.start_ns) / (double)FC_NS_PER_S);
    append_format(&out, "level=%s event=", LEVELS[level].name);
    append_value(&out, event);
    for (size_t i = 0; i < field_count; i++)
        append_field(&out, &fields[i]);
    finish(&out);
    /* A full or closed stderr loses the line: logging must never hold up a lane. What poll() calls writable takes a
     * line at once, shorter than PIPE_BUF as it is. */
    struct pollfd writable = {.fd = log_state.fd, .events = POLLOUT};
    while (poll(&writable, 1, 0) == 1 && write(log_state.fd, out.text, out.used_bytes) < 0 && errno == EINTR)
        ;
    errno = saved_errno;
}
