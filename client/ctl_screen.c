/* See ctl_screen.h. Plain ANSI sequences that every terminal since xterm knows. */
#include "client/ctl_screen.h"

#include "client/tool_clock.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ENTER "\x1b[?1049h\x1b[?25l\x1b[2J"
#define LEAVE "\x1b[?25h\x1b[?1049l"

static const int ENDS[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static bool is_open;
static bool has_modes; /* standard input is a terminal, whose modes stood in before */
static bool has_keys;  /* and still gives keys */
static struct termios before;
static volatile sig_atomic_t was_resized;

/* Also from signal handlers: write() and tcsetattr() are all it does. */
static void put(const char *sequence, size_t bytes)
{
    while (bytes > 0) {
        ssize_t written = write(STDOUT_FILENO, sequence, bytes);
        if (written <= 0)
            return;
        sequence += written;
        bytes -= (size_t)written;
    }
}

static void enter(void)
{
    if (has_modes) {
        struct termios raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    put(ENTER, sizeof ENTER - 1);
}

static void leave(void)
{
    put(LEAVE, sizeof LEAVE - 1);
    if (has_modes)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void on_end(int number)
{
    leave();
    signal(number, SIG_DFL);
    raise(number);
}

static void on_stop(int number)
{
    (void)number;
    leave();
    raise(SIGSTOP);
    enter();
    was_resized = 1;
}

static void on_resize(int number)
{
    (void)number;
    was_resized = 1;
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

void fc_ctl_screen_open(void)
{
    has_keys = has_modes = tcgetattr(STDIN_FILENO, &before) == 0;
    for (size_t i = 0; i < sizeof ENDS / sizeof ENDS[0]; i++)
        handle(ENDS[i], on_end);
    handle(SIGTSTP, on_stop);
    handle(SIGWINCH, on_resize);
    enter();
    is_open = true;
}

void fc_ctl_screen_close(void)
{
    if (!is_open)
        return;
    is_open = false;
    leave();
    for (size_t i = 0; i < sizeof ENDS / sizeof ENDS[0]; i++)
        handle(ENDS[i], SIG_DFL);
    handle(SIGTSTP, SIG_DFL);
    handle(SIGWINCH, SIG_DFL);
}

/* The next line's bytes that fit into `columns`, in *out_bytes; returns what is behind its end. */
static const char *cut_line(const char *line, size_t columns, size_t *out_bytes)
{
    size_t length = strcspn(line, "\n"), bytes = 0;
    for (size_t column = 0; bytes < length && column < columns; column++) {
        bytes++;
        while (bytes < length && ((unsigned char)line[bytes] & 0xc0) == 0x80)
            bytes++;
    }
    *out_bytes = bytes;
    return line + length + (line[length] == '\n');
}

bool fc_ctl_screen_show(const char *text)
{
    struct winsize size = {.ws_row = 0};
    bool has_size = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;
    size_t rows = has_size ? size.ws_row : 24, columns = has_size ? size.ws_col : 80;
    fputs("\x1b[H", stdout);
    for (size_t row = 0; row < rows && *text != '\0'; row++) {
        size_t bytes;
        const char *next = cut_line(text, columns, &bytes);
        printf("%s%.*s\x1b[K", row > 0 ? "\n" : "", (int)bytes, text);
        text = next;
    }
    fputs("\x1b[J", stdout);
    return fflush(stdout) == 0;
}

fc_ctl_wake fc_ctl_screen_wait(uint64_t until_ns)
{
    for (;;) {
        uint64_t now_ns = fc_clock_now_ns();
        if (was_resized) {
            was_resized = 0;
            return FC_CTL_WAKE_RESIZED;
        }
        if (now_ns >= until_ns)
            return FC_CTL_WAKE_TIME;
        struct timespec left = fc_clock_timespec(until_ns - now_ns);
        struct pollfd keys = {.fd = has_keys ? STDIN_FILENO : -1, .events = POLLIN};
        char key;
        if (ppoll(&keys, 1, &left, NULL) != 1)
            continue;
        ssize_t bytes = read(STDIN_FILENO, &key, 1);
        if (bytes == 1 && (key == 'q' || key == 'Q'))
            return FC_CTL_WAKE_QUIT;
        if (bytes <= 0)
            has_keys = false; /* gone: no more keys, no busy waiting */
    }
}
