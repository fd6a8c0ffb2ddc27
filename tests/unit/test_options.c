/* daemon/options, option_value, config_file: every type, its edges, the exact words of each complaint, and which source
 * wins. */
#include "daemon/options.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ARGS_MAX 40

static char config_path[] = "/tmp/test_options.XXXXXX";
static fc_options options;
static fc_reason reason;

static void make_config(void)
{
    int fd = mkstemp(config_path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void remove_config(void)
{
    unlink(config_path);
}

static void write_config(const char *text)
{
    FILE *file = fopen(config_path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    fclose(file);
}

/* Parses "flashcored" plus the words of a line; @ stands for the config file's path. */
static fc_status parse(const char *line)
{
    char words[2048], *argv[ARGS_MAX + 1] = {"flashcored"};
    int argc = 1;
    size_t used = 0;
    for (const char *c = line; *c != '\0' && used + sizeof config_path < sizeof words; c++) {
        if (*c == '@') {
            memcpy(words + used, config_path, strlen(config_path));
            used += strlen(config_path);
        } else {
            words[used++] = *c;
        }
    }
    words[used] = '\0';
    for (char *word = strtok(words, " "); word != NULL && argc < ARGS_MAX; word = strtok(NULL, " "))
        argv[argc++] = word;
    reason.text[0] = '\0';
    return fc_options_parse(argc, argv, &options, &reason);
}

static fc_option_id id_of(const char *name)
{
    for (int id = 0; id < FC_OPTION_COUNT; id++)
        if (strcmp(fc_options_row((fc_option_id)id)->name, name) == 0)
            return (fc_option_id)id;
    ck_abort_msg("no option %s", name);
    return FC_OPTION_COUNT;
}

static const char *value_of(const char *name, uint32_t index)
{
    static char text[FC_OPTION_VALUE_BYTES];
    return fc_options_value(&options, id_of(name), index, text);
}

/* --- the command line --------------------------------------------------------------------------------------------- */

/* Accepted: the line, an option, its value afterwards. */
static const struct {
    const char *line, *name, *value;
} RIGHT[] = {
    {"", "listen", "ipc:///run/flashcored/flashcored.sock"},
    {"", "queue-requests", "256"},
    {"", "queue-bytes", "1G"},
    {"", "drain-timeout", "10s"},
    {"", "socket-mode", "0660"},
    {"", "kernel", "auto"},
    {"--lanes 0", "lanes", "0"},
    {"--lanes=16", "lanes", "16"},
    {"--lanes 1 --lanes 2", "lanes", "2"},
    {"", "metrics", ""},
    {"--metrics 127.0.0.1:9477", "metrics", "127.0.0.1:9477"},
    {"--metrics [::]:1 --insecure-metrics", "metrics", "[::]:1"},
    {"-d 3", "device", "3"},
    {"-d3", "device", "3"},
    {"--message-bytes 268435456", "message-bytes", "256M"},
    {"--message-bytes 300000001", "message-bytes", "300000001"},
    {"--message-bytes 33M", "message-bytes", "33M"},
    {"--queue-bytes 1024G", "queue-bytes", "1024G"},
    {"--drain-timeout 0", "drain-timeout", "0"},
    {"--drain-timeout 0s", "drain-timeout", "0"},
    {"--drain-timeout 3600s", "drain-timeout", "3600s"},
    {"--drain-timeout 1500ms", "drain-timeout", "1500ms"},
    {"--drain-timeout 2000ms", "drain-timeout", "2s"},
    {"--drain-timeout 7us", "drain-timeout", "7us"},
    {"--close-timeout 1ms", "close-timeout", "1ms"},
    {"--socket-mode 600", "socket-mode", "0600"},
    {"--socket-mode 0777", "socket-mode", "0777"},
    {"--engine cpu", "engine", "cpu"},
    {"-e cuda", "engine", "cuda"},
    {"-k cpu", "kernel", "cpu"},
    {"--kernel=vec", "kernel", "vec"},
    {"--log-level trace", "log-level", "trace"},
    {"--cuda-engine /a/b.so", "cuda-engine", "/a/b.so"},
    {"-l tcp://127.0.0.1:0", "listen", "tcp://127.0.0.1:0"},
    {"-l tcp://[::1]:65535", "listen", "tcp://[::1]:65535"},
    {"--help", "help", "yes"},
    {"-V --nonsense", "version", "yes"},
    {"--check-config", "check-config", "yes"},
    /* A default gives way to what was asked for. */
    {"--message-bytes 1M", "tensor-bytes", "1M"},
    {"--queue-bytes 1M", "message-bytes", "1M"},
    {"--queue-bytes 1M", "tensor-bytes", "1M"},
    {"--tensor-bytes 2G", "message-bytes", "2G"},
    {"--tensor-bytes 2G", "queue-bytes", "2G"},
    {"--tensor-bytes 4M", "lane-staging-bytes", "18M"},
    {"", "lane-staging-bytes", "137M"},
    {"--lane-staging-bytes 18M", "tensor-bytes", "4M"},
    {"--lane-staging-bytes 1G", "tensor-bytes", "32M"},
};

START_TEST(right_lines_are_taken)
{
    fc_status st = parse(RIGHT[_i].line);
    ck_assert_msg(st == FC_OK, "%s: %s", RIGHT[_i].line, reason.text);
    ck_assert_str_eq(value_of(RIGHT[_i].name, 0), RIGHT[_i].value);
}
END_TEST

static const struct {
    const char *line, *reason;
} WRONG[] = {
    {"--lanes", "lanes: expected N after it, got nothing"},
    {"--lanes=", "lanes: expected a count from 0 to 16, got \"\""},
    {"--cpu-threads 1025", "cpu-threads: expected a count from 0 to 1024, got \"1025\""},
    {"--lanes 17", "lanes: expected a count from 0 to 16, got \"17\""},
    {"--lanes -1", "lanes: expected a count from 0 to 16, got \"-1\""},
    {"--lanes +1", "lanes: expected a count from 0 to 16, got \"+1\""},
    {"--lanes 1x", "lanes: expected a count from 0 to 16, got \"1x\""},
    {"--lanes 1K", "lanes: expected a count from 0 to 16, got \"1K\""},
    {"--lanes 99999999999999999999", "lanes: expected a count from 0 to 16, got \"99999999999999999999\""},
    {"--batch-requests 0", "batch-requests: expected a count from 1 to 256, got \"0\""},
    {"--tokens 1073741824", "tokens: expected a count from 1 to 1073741823, got \"1073741824\""},
    {"--queue-bytes 4095", "queue-bytes: expected a size like 64M from 4K to 1024G, got \"4095\""},
    {"--queue-bytes 1025G", "queue-bytes: expected a size like 64M from 4K to 1024G, got \"1025G\""},
    {"--queue-bytes 1m", "queue-bytes: expected a size like 64M from 4K to 1024G, got \"1m\""},
    {"--queue-bytes 18014398509481984K",
     "queue-bytes: expected a size like 64M from 4K to 1024G, got \"18014398509481984K\""},
    {"--drain-timeout 5", "drain-timeout: expected a time like 500ms or 10s from 0 to 3600s, got \"5\""},
    {"--drain-timeout 3601s", "drain-timeout: expected a time like 500ms or 10s from 0 to 3600s, got \"3601s\""},
    {"--drain-timeout 1m", "drain-timeout: expected a time like 500ms or 10s from 0 to 3600s, got \"1m\""},
    {"--close-timeout 999us", "close-timeout: expected a time like 500ms or 10s from 1ms to 60s, got \"999us\""},
    {"--socket-mode 0888", "socket-mode: expected octal permissions from 0000 to 0777, got \"0888\""},
    {"--socket-mode 1777", "socket-mode: expected octal permissions from 0000 to 0777, got \"1777\""},
    {"--engine gpu", "engine: expected one of auto, cuda, cpu, got \"gpu\""},
    {"--log-level INFO", "log-level: expected one of error, warn, info, debug, trace, got \"INFO\""},
    {"-l http://x:1", "listen: expected ipc://PATH (at most 107 bytes of path), tls+tcp://HOST:PORT or "
                      "tcp://HOST:PORT, got \"http://x:1\""},
    {"-l ipc://",
     "listen: expected ipc://PATH (at most 107 bytes of path), tls+tcp://HOST:PORT or tcp://HOST:PORT, got \"ipc://\""},
    {"-l tcp://host", "listen: expected ipc://PATH (at most 107 bytes of path), tls+tcp://HOST:PORT or "
                      "tcp://HOST:PORT, got \"tcp://host\""},
    {"-l tcp://:1", "listen: expected ipc://PATH (at most 107 bytes of path), tls+tcp://HOST:PORT or tcp://HOST:PORT, "
                    "got \"tcp://:1\""},
    {"-l tcp://h:65536", "listen: expected ipc://PATH (at most 107 bytes of path), tls+tcp://HOST:PORT or "
                         "tcp://HOST:PORT, got \"tcp://h:65536\""},
    {"-l tcp://h:", "listen: expected ipc://PATH (at most 107 bytes of path), tls+tcp://HOST:PORT or tcp://HOST:PORT, "
                    "got \"tcp://h:\""},
    {"-l tls+ipc://h:1", "listen: expected ipc://PATH (at most 107 bytes of path), tls+tcp://HOST:PORT or "
                         "tcp://HOST:PORT, got \"tls+ipc://h:1\""},
    {"-l tcp://0.0.0.0:7000",
     "listen tcp://0.0.0.0:7000: open to other machines, unencrypted; expected tls+tcp:// with tls-client-ca, "
     "tcp://127.0.0.1:PORT, or insecure-tcp if that is meant"},
    {"-l tls+tcp://127.0.0.1:1", "listen tls+tcp://127.0.0.1:1: expected tls-cert and tls-key with it"},
    {"-l tls+tcp://10.0.0.1:1 --tls-cert c --tls-key k",
     "listen tls+tcp://10.0.0.1:1: lets in whoever can reach it; expected tls-client-ca, or insecure-tcp if that is "
     "meant"},
    {"--help=3", "help: expected no value, got one"},
    {"--quue-bytes 3", "unknown option \"quue-bytes\", did you mean \"queue-bytes\"?"},
    {"--kernl=cpu", "unknown option \"kernl\", did you mean \"kernel\"?"},
    {"--something-else-entirely", "unknown option \"something-else-entirely\""},
    {"-z", "unknown option \"-z\""},
    {"word", "expected options only, got \"word\""},
    {"--queue-bytes 1M --message-bytes 2M", "message-bytes: expected at most queue-bytes, which is 1M, got 2M"},
    {"--message-bytes 1M --tensor-bytes 2M", "tensor-bytes: expected at most message-bytes, which is 1M, got 2M"},
    {"--queue-bytes 1M --tensor-bytes 2M", "tensor-bytes: expected at most message-bytes, which is 1M, got 2M"},
    {"--tensor-bytes 4M --lane-staging-bytes 17M",
     "lane-staging-bytes: expected at least 18874368 (what tensor-bytes 4194304 needs) or 0, got 17825792"},
    {"--lane-staging-bytes 1K",
     "lane-staging-bytes: expected at least 143654912 (what tensor-bytes 33554432 needs) or 0, got 1024"},
    {"--metrics nowhere",
     "metrics: expected 127.0.0.1:PORT, [::1]:PORT or unix:PATH (at most 107 bytes of path), got \"nowhere\""},
    {"--metrics 0.0.0.0:9477", "metrics: expected an address of this machine alone (127.0.0.1, ::1, unix:) or "
                               "--insecure-metrics beside it, got \"0.0.0.0:9477\""},
    {"--config /nonexistent/flashcored.conf",
     "config /nonexistent/flashcored.conf: No such file or directory; expected a file of name = value lines"},
    {"--config /", "config /: not a regular file; expected a file of name = value lines"},
};

START_TEST(wrong_lines_say_what_was_expected)
{
    ck_assert_int_ne(parse(WRONG[_i].line), FC_OK);
    ck_assert_str_eq(reason.text, WRONG[_i].reason);
}
END_TEST

START_TEST(long_texts_are_refused_not_cut)
{
    char value[FC_OPTION_TEXT_BYTES + 1], url[64 + FC_URL_BYTES];
    fc_options_defaults(&options);
    memset(value, 'x', sizeof value);
    value[FC_OPTION_TEXT_BYTES] = '\0';
    ck_assert_int_eq(fc_options_set(&options, "cuda-engine", value, FC_FROM_FILE, &reason), FC_INVALID_ARGUMENT);
    ck_assert_str_eq(reason.text, "cuda-engine: expected at most 1023 bytes, got 1024");
    value[FC_OPTION_TEXT_BYTES - 1] = '\0';
    ck_assert_int_eq(fc_options_set(&options, "cuda-engine", value, FC_FROM_FILE, &reason), FC_OK);
    ck_assert_str_eq(options.cuda_engine, value);
    for (int path_bytes = 107; path_bytes <= 108; path_bytes++) {
        snprintf(url, sizeof url, "ipc://%.*s", path_bytes, value);
        ck_assert_int_eq(fc_options_set(&options, "listen", url, FC_FROM_FILE, &reason) == FC_OK, path_bytes == 107);
    }
}
END_TEST

START_TEST(only_known_clients_reach_further_than_loopback)
{
    static const struct {
        const char *args;
        bool is_fine;
    } rows[] = {
        {"-l tcp://127.0.0.1:1", true},
        {"-l tcp://127.8.9.10:1", true},
        {"-l tcp://localhost:1", true},
        {"-l tcp://[::1]:1", true},
        {"-l tcp://128.0.0.1:1", false},
        {"-l tcp://[::]:1", false},
        {"-l tcp://[::ffff:127.0.0.1]:1", false},
        {"-l tcp://*:1", false},
        {"-l tcp://localhost.example:1", false},
        {"-l tcp://127.0.0.1.example:1", false},
        {"-l ipc://a -l tcp://10.0.0.1:1", false},
        {"-l tcp://10.0.0.1:1 --insecure-tcp", true},
        {"-l tls+tcp://127.0.0.1:1 --tls-cert c --tls-key k", true},
        {"-l tls+tcp://127.0.0.1:1 --tls-cert c", false},
        {"-l tls+tcp://127.0.0.1:1 --tls-key k", false},
        {"-l tls+tcp://10.0.0.1:1 --insecure-tcp", false},
        {"-l tls+tcp://10.0.0.1:1 --tls-cert c --tls-key k", false},
        {"-l tls+tcp://10.0.0.1:1 --tls-cert c --tls-key k --insecure-tcp", true},
        {"-l tls+tcp://10.0.0.1:1 --tls-cert c --tls-key k --tls-client-ca a", true},
        {"-l tls+tcp://10.0.0.1:1 --tls-cert c --tls-key k --tls-client-ca a -l tcp://10.0.0.1:2", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fc_status st = parse(rows[i].args);
        ck_assert_msg(st == (rows[i].is_fine ? FC_OK : FC_INVALID_ARGUMENT), "%s: %s", rows[i].args,
                      st == FC_OK ? "accepted" : reason.text);
    }
}
END_TEST

START_TEST(listen_collects_up_to_its_limit)
{
    ck_assert_int_eq(parse("-l ipc://a -l tcp://localhost:1 --listen ipc://c"), FC_OK);
    ck_assert_uint_eq(options.listen.count, 3);
    ck_assert_str_eq(value_of("listen", 0), "ipc://a");
    ck_assert_str_eq(value_of("listen", 2), "ipc://c");
    ck_assert_str_eq(value_of("listen", 3), "");
    fc_options_defaults(&options);
    for (int i = 0; i < FC_LISTEN_MAX; i++)
        ck_assert_int_eq(fc_options_set(&options, "listen", "ipc://x", FC_FROM_FILE, &reason), FC_OK);
    ck_assert_int_eq(fc_options_set(&options, "listen", "ipc://y", FC_FROM_FILE, &reason), FC_INVALID_ARGUMENT);
    ck_assert_str_eq(reason.text, "listen: expected at most 16 of them, got one more: \"ipc://y\"");
    ck_assert_uint_eq(options.listen.count, FC_LISTEN_MAX);
}
END_TEST

/* Every row's default and both ends of its range are accepted, one beyond is not. */
START_TEST(every_row_keeps_its_own_range)
{
    for (int i = 0; i < FC_OPTION_COUNT; i++) {
        const fc_option *row = fc_options_row((fc_option_id)i);
        fc_options_defaults(&options);
        if (row->type != FC_TYPE_COUNT && row->type != FC_TYPE_BYTES)
            continue;
        char text[32];
        const uint64_t values[] = {row->min, row->max, row->max + 1, row->min - 1};
        for (int v = 0; v < 4; v++) {
            if (v == 3 && row->min == 0)
                continue;
            snprintf(text, sizeof text, "%llu", (unsigned long long)values[v]);
            fc_status st = fc_options_set(&options, row->name, text, FC_FROM_COMMAND_LINE, &reason);
            ck_assert_msg((st == FC_OK) == (v < 2), "%s = %s", row->name, text);
        }
        ck_assert_uint_gt(strlen(row->help), 0);
    }
}
END_TEST

/* --- the config file ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *file, *name, *value;
} RIGHT_FILES[] = {
    {"", "lanes", "0"},
    {"# nothing but a comment\n; another\n\n   \n", "lanes", "0"},
    {"lanes = 3\n", "lanes", "3"},
    {"lanes=3", "lanes", "3"},
    {"  lanes = 3  ; why\n", "lanes", "3"},
    {"\tlanes = 3\r\n", "lanes", "3"},
    {"lanes = 3\nlanes = 4\n", "lanes", "4"},
    {"engine = cpu\n  lanes = 3\n", "lanes", "3"},
    {"insecure-tcp = yes\nlisten = tcp://0.0.0.0:7000\n", "listen", "tcp://0.0.0.0:7000"},
    {"drain-timeout = 2s\n", "drain-timeout", "2s"},
    {"cuda-engine = /opt/a b/x.so\n", "cuda-engine", "/opt/a b/x.so"},
};

START_TEST(right_files_are_read)
{
    write_config(RIGHT_FILES[_i].file);
    fc_status st = parse("--config @");
    ck_assert_msg(st == FC_OK, "%s", reason.text);
    ck_assert_str_eq(value_of(RIGHT_FILES[_i].name, 0), RIGHT_FILES[_i].value);
}
END_TEST

#define X20 "xxxxxxxxxxxxxxxxxxxx"
static const struct {
    const char *file, *line_and_reason;
} WRONG_FILES[] = {
    {"# fine\nlanes = many\n", "2: lanes: expected a count from 0 to 16, got \"many\""},
    {"lanes\n", "1: expected name = value"},
    {"\n\nlanes 3\nlanes = 99\n", "4: lanes: expected a count from 0 to 16, got \"99\""},
    {"lane = 3\n", "1: unknown option \"lane\", did you mean \"lanes\"?"},
    {"[serving]\nlanes = 3\n", "1: expected name = value, got a section"},
    {"help = yes\n", "1: help: expected on the command line only"},
    {"config = other.conf\n", "1: config: expected on the command line only"},
    {"engine = cpu\n  lanes = x\nengine = gpu\n", "2: lanes: expected a count from 0 to 16, got \"x\""},
    {"lanes = 1\ncuda-engine = " X20 X20 X20 X20 X20 X20 X20 X20 X20 X20 "\n",
     "2: expected a line of at most 198 bytes"},
    {"= 3\n", "1: unknown option \"\""},
    {"lanes = 1 ; fine\nadmin-socket = /a#b\nadmin-socket = /a # main\n",
     "3: a comment behind a value begins with a blank and ;, # takes a line of its own"},
    {"metrics =\t# none\n", "1: a comment behind a value begins with a blank and ;, # takes a line of its own"},
    {"metrics =;none\n", "1: a comment behind a value begins with a blank and ;, # takes a line of its own"},
    {"lanes = 3\r\nkernel = \033[2Jcpu\n", "2: expected text, got a control character"},
    {"lanes = 3\rkernel = cpu\n", "1: expected text, got a control character"},
};

START_TEST(wrong_files_name_the_line)
{
    char want[512];
    write_config(WRONG_FILES[_i].file);
    ck_assert_int_eq(parse("--config @"), FC_INVALID_ARGUMENT);
    snprintf(want, sizeof want, "%s:%s", config_path, WRONG_FILES[_i].line_and_reason);
    ck_assert_str_eq(reason.text, want);
}
END_TEST

/* Binary files: a NUL would end the line unseen. */
START_TEST(a_file_with_a_nul_is_refused)
{
    static const char CONTENT[] = "lanes = 3\nlanes = 4\0000\n";
    char want[512];
    FILE *file = fopen(config_path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(CONTENT, 1, sizeof CONTENT - 1, file), sizeof CONTENT - 1);
    fclose(file);
    ck_assert_int_eq(parse("--config @"), FC_INVALID_ARGUMENT);
    snprintf(want, sizeof want, "%s:2: expected text, got a NUL byte", config_path);
    ck_assert_str_eq(reason.text, want);
}
END_TEST

/* What would be waited for, or has no end: each is refused at once. */
START_TEST(only_a_regular_file_is_read)
{
    char want[512];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < 3; i++) {
        unlink(config_path);
        if (i == 0) {
            ck_assert_int_eq(mkfifo(config_path, 0600), 0);
        } else if (i == 1) {
            ck_assert_int_eq(mkdir(config_path, 0700), 0);
        } else {
            ck_assert_int_eq(rmdir(config_path), 0);
            snprintf(address.sun_path, sizeof address.sun_path, "%s", config_path);
            ck_assert_int_eq(bind(listener, (const struct sockaddr *)&address, sizeof address), 0);
        }
        ck_assert_int_eq(parse("--config @"), FC_INVALID_ARGUMENT);
        snprintf(want, sizeof want, "config %s: not a regular file; expected a file of name = value lines",
                 config_path);
        ck_assert_str_eq(reason.text, want);
    }
    close(listener);
    ck_assert_int_eq(parse("--config /dev/zero"), FC_INVALID_ARGUMENT);
    ck_assert_str_eq(reason.text, "config /dev/zero: not a regular file; expected a file of name = value lines");
    ck_assert_int_eq(parse("--config /dev/null"), FC_OK);
    ck_assert_str_eq(value_of("lanes", 0), "0");
}
END_TEST

/* The longest line, with and without its newline, and one more byte. */
START_TEST(a_line_has_198_bytes_at_most)
{
    char line[256], want[512];
    for (size_t bytes = 197; bytes <= 199; bytes++) {
        for (int has_newline = 0; has_newline < 2; has_newline++) {
            size_t start = (size_t)snprintf(line, sizeof line, "cuda-engine = ");
            memset(line + start, 'x', bytes - start);
            line[bytes] = has_newline ? '\n' : '\0';
            line[bytes + 1] = '\0';
            write_config(line);
            fc_status st = parse("--config @");
            ck_assert_msg((st == FC_OK) == (bytes <= 198), "%zu bytes: %s", bytes, reason.text);
            if (st == FC_OK)
                ck_assert_uint_eq(strlen(value_of("cuda-engine", 0)), bytes - start);
        }
    }
    snprintf(want, sizeof want, "%s:1: expected a line of at most 198 bytes", config_path);
    ck_assert_str_eq(reason.text, want);
}
END_TEST

START_TEST(the_command_line_wins_over_the_file)
{
    write_config("lanes = 3\nlisten = ipc://file1\nlisten = ipc://file2\nengine = cpu\nqueue-bytes = 8M\n");
    ck_assert_int_eq(parse("-l ipc://flag --config @ --lanes 5 --message-bytes 4M"), FC_OK);
    ck_assert_str_eq(value_of("lanes", 0), "5");
    ck_assert_str_eq(value_of("engine", 0), "cpu");
    ck_assert_uint_eq(options.listen.count, 1);
    ck_assert_str_eq(value_of("listen", 0), "ipc://flag");
    ck_assert_int_eq(options.sources[FC_OPTION_lane_count], FC_FROM_COMMAND_LINE);
    ck_assert_int_eq(options.sources[FC_OPTION_engine], FC_FROM_FILE);
    ck_assert_int_eq(options.sources[FC_OPTION_device_index], FC_FROM_DEFAULT);
    ck_assert_int_eq(parse("--config @"), FC_OK);
    ck_assert_uint_eq(options.listen.count, 2);
    /* A file's line that loses must be right all the same. */
    write_config("lanes = x\n");
    ck_assert_int_eq(parse("--lanes 5 --config @"), FC_INVALID_ARGUMENT);
    /* Nobody who asks for help wants to hear of a broken file. */
    ck_assert_int_eq(parse("--config @ --help"), FC_OK);
}
END_TEST

START_TEST(a_failed_parse_leaves_the_options_alone)
{
    ck_assert_int_eq(parse("--lanes 7"), FC_OK);
    ck_assert_int_eq(parse("--lanes 8 --lanes x"), FC_INVALID_ARGUMENT);
    ck_assert_str_eq(value_of("lanes", 0), "7");
}
END_TEST

/* --- reload ------------------------------------------------------------------------------------------------------- */

static char changes[512];

static void note_change(void *context, const char *name, const char *value, bool is_applied)
{
    (void)context;
    size_t used = strlen(changes);
    snprintf(changes + used, sizeof changes - used, "%s=%s%s ", name, value, is_applied ? "" : "!");
}

START_TEST(a_reload_takes_what_can_change_and_names_the_rest)
{
    static fc_options fresh;
    ck_assert_int_eq(parse("--lanes 2 -l ipc://a"), FC_OK);
    fresh = options;
    fc_options current = options;
    changes[0] = '\0';
    fc_options_reload(&current, &fresh, note_change, NULL);
    ck_assert_str_eq(changes, "");

    ck_assert_int_eq(parse("--lanes 3 -l ipc://a -l ipc://b --queue-requests 9 --log-level debug --kernel cpu"), FC_OK);
    fc_options_reload(&current, &options, note_change, NULL);
    ck_assert_str_eq(changes, "listen=ipc://a! kernel=cpu lanes=3! queue-requests=9 log-level=debug ");
    ck_assert_uint_eq(current.lane_count, 2);
    ck_assert_uint_eq(current.listen.count, 1);
    ck_assert_uint_eq(current.queue_requests, 9);
    ck_assert_int_eq(current.log_level, FC_LOG_DEBUG);
    ck_assert_int_eq(current.kernel, FC_KERNEL_CPU);
    /* Told again as long as it is not so. */
    changes[0] = '\0';
    fc_options_reload(&current, &options, note_change, NULL);
    ck_assert_str_eq(changes, "listen=ipc://a! lanes=3! ");
}
END_TEST

/* --- printing ----------------------------------------------------------------------------------------------------- */

static const char *printed_help(void)
{
    static char text[16384];
    FILE *out = fmemopen(text, sizeof text, "w");
    fc_options_print_help(out);
    fclose(out);
    return text;
}

START_TEST(help_names_every_option_within_80_columns)
{
    const char *help = printed_help();
    char flag[64];
    for (int id = 0; id < FC_OPTION_COUNT; id++) {
        snprintf(flag, sizeof flag, "--%s", fc_options_row((fc_option_id)id)->name);
        ck_assert_msg(strstr(help, flag) != NULL, "%s", flag);
    }
    for (const char *line = help; *line != '\0'; line += strcspn(line, "\n") + 1)
        ck_assert_msg(strcspn(line, "\n") <= 80, "%.*s", (int)strcspn(line, "\n"), line);
    ck_assert_ptr_nonnull(strstr(help, "[default 10s; 0 to 3600s]"));
}
END_TEST

/* What --check-config shows is a config file that means the same. */
START_TEST(effective_values_can_be_read_back)
{
    static char text[8192];
    ck_assert_int_eq(parse("--lanes 3 -l ipc://a -l tcp://[::1]:1 --drain-timeout 1500us --socket-mode 600 -e cpu"),
                     FC_OK);
    FILE *out = fmemopen(text, sizeof text, "w");
    fc_options_print_effective(out, &options);
    fclose(out);
    write_config(text);
    fc_options before = options;
    fc_status st = parse("--config @");
    ck_assert_msg(st == FC_OK, "%s in\n%s", reason.text, text);
    changes[0] = '\0';
    memcpy(before.config, options.config, sizeof before.config);
    fc_options_reload(&before, &options, note_change, NULL);
    ck_assert_str_eq(changes, "");
}
END_TEST

/* Of a value that leaves no room for its source on the line, or for blanks, too. */
START_TEST(long_effective_values_can_be_read_back)
{
    static char text[8192];
    for (size_t bytes = 160; bytes <= FC_CONFIG_LINE_BYTES; bytes++) {
        char line[256], value[256];
        size_t start = (size_t)snprintf(line, sizeof line, "cuda-engine=");
        memset(line + start, 'x', bytes - start);
        line[bytes] = '\0';
        write_config(line);
        ck_assert_int_eq(parse("--config @"), FC_OK);
        strcpy(value, value_of("cuda-engine", 0));
        FILE *out = fmemopen(text, sizeof text, "w");
        fc_options_print_effective(out, &options);
        fclose(out);
        write_config(text);
        fc_status st = parse("--config @");
        ck_assert_msg(st == FC_OK, "%s in\n%s", reason.text, text);
        ck_assert_str_eq(value_of("cuda-engine", 0), value);
    }
}
END_TEST

int main(void)
{
#define ROWS_OF(table) (int)(sizeof(table) / sizeof(table)[0])
    Suite *suite = suite_create("options");
    TCase *flags = tcase_create("command line");
    tcase_add_loop_test(flags, right_lines_are_taken, 0, ROWS_OF(RIGHT));
    tcase_add_loop_test(flags, wrong_lines_say_what_was_expected, 0, ROWS_OF(WRONG));
    tcase_add_test(flags, long_texts_are_refused_not_cut);
    tcase_add_test(flags, only_known_clients_reach_further_than_loopback);
    tcase_add_test(flags, listen_collects_up_to_its_limit);
    tcase_add_test(flags, every_row_keeps_its_own_range);
    tcase_add_test(flags, a_failed_parse_leaves_the_options_alone);
    suite_add_tcase(suite, flags);
    TCase *files = tcase_create("config file");
    tcase_add_checked_fixture(files, make_config, remove_config);
    tcase_add_loop_test(files, right_files_are_read, 0, ROWS_OF(RIGHT_FILES));
    tcase_add_loop_test(files, wrong_files_name_the_line, 0, ROWS_OF(WRONG_FILES));
    tcase_add_test(files, the_command_line_wins_over_the_file);
    tcase_add_test(files, a_file_with_a_nul_is_refused);
    tcase_add_test(files, only_a_regular_file_is_read);
    tcase_add_test(files, a_line_has_198_bytes_at_most);
    tcase_add_test(files, a_reload_takes_what_can_change_and_names_the_rest);
    tcase_add_test(files, help_names_every_option_within_80_columns);
    tcase_add_test(files, effective_values_can_be_read_back);
    tcase_add_test(files, long_effective_values_can_be_read_back);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
