/* The log: one line an event, key=value pairs, to stderr.
 *
 *     t=0.004127 level=info event=listening url=ipc:///run/flashcored/flashcored.sock
 *
 * t is seconds since fc_log_start() on the monotonic clock. When stderr is the journal's stream the line starts with
 * journald's <priority> and leaves t out. Values are quoted where they need it and control characters are escaped, so
 * nothing a peer sends can forge a line. fc_log_start() before threads start; everything else from any thread: a line
 * is one write(). The layer that gives up logs, once; layers below return a status.
 */
#ifndef FC_DAEMON_LOG_H
#define FC_DAEMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FC_LOG_LEVEL_ROW(symbol, name, journald_priority, what), from worst to most talkative. */
#define FC_LOG_LEVELS(X)                                                                                               \
    X(FC_LOG_ERROR, "error", 3, "what made the daemon or a lane give up")                                              \
    X(FC_LOG_WARN, "warn", 4, "what an operator should look at")                                                       \
    X(FC_LOG_INFO, "info", 6, "start, reload, drain, stop")                                                            \
    X(FC_LOG_DEBUG, "debug", 7, "connections and launches")                                                            \
    X(FC_LOG_TRACE, "trace", 7, "every state change of every request")

typedef enum fc_log_level {
#define FC_LOG_LEVEL_ENUM(symbol, name, priority, what) symbol,
    FC_LOG_LEVELS(FC_LOG_LEVEL_ENUM)
#undef FC_LOG_LEVEL_ENUM
        FC_LOG_LEVEL_COUNT
} fc_log_level;

/* One key=value pair; key is a literal, text is borrowed for the call. */
typedef struct fc_log_field {
    const char *key;
    enum { FC_LOG_FIELD_NONE, FC_LOG_FIELD_TEXT, FC_LOG_FIELD_UINT, FC_LOG_FIELD_INT, FC_LOG_FIELD_REAL } kind;
    union {
        const char *text;
        uint64_t uint_value;
        int64_t int_value;
        double real_value;
    };
} fc_log_field;

static inline fc_log_field fc_log_text(const char *key, const char *text) /* NULL reads as "" */
{
    return (fc_log_field){.key = key, .kind = FC_LOG_FIELD_TEXT, .text = text};
}

static inline fc_log_field fc_log_uint(const char *key, uint64_t value)
{
    return (fc_log_field){.key = key, .kind = FC_LOG_FIELD_UINT, .uint_value = value};
}

static inline fc_log_field fc_log_int(const char *key, int64_t value)
{
    return (fc_log_field){.key = key, .kind = FC_LOG_FIELD_INT, .int_value = value};
}

static inline fc_log_field fc_log_real(const char *key, double value)
{
    return (fc_log_field){.key = key, .kind = FC_LOG_FIELD_REAL, .real_value = value};
}

/* fc_log(FC_LOG_INFO, "listening", fc_log_text("url", url), fc_log_uint("pipes", n)); any number of fields, none too.
 * Costs one relaxed load when the level is off; the fields are not evaluated then. */
#define fc_log(level, event, ...)                                                                                      \
    do {                                                                                                               \
        if (fc_log_is_on(level))                                                                                       \
            fc_log_write((level), (event), (const fc_log_field[]){{.key = NULL}, ##__VA_ARGS__},                       \
                         sizeof((const fc_log_field[]){{.key = NULL}, ##__VA_ARGS__}) / sizeof(fc_log_field));         \
    } while (0)

/* Sets where lines go (a descriptor that stays open; stderr in the daemon), the level, and the start of time. Looks at
 * $JOURNAL_STREAM to find out whether fd is the journal. */
void fc_log_start(int fd, fc_log_level level);

void fc_log_set_level(fc_log_level level);
bool fc_log_is_on(fc_log_level level);

/* Behind fc_log(). Fields of kind NONE are skipped. Keeps errno. A line longer than FC_LOG_LINE_BYTES is cut and ends
 * in "...". */
#define FC_LOG_LINE_BYTES 2048
void fc_log_write(fc_log_level level, const char *event, const fc_log_field *fields, size_t field_count);

#endif
