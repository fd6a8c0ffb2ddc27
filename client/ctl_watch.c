/* See ctl_watch.h. */
#include "client/ctl_watch.h"

#include "client/ctl_commands.h"
#include "client/ctl_screen.h"
#include "client/ctl_view.h"
#include "client/tool_clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct watch {
    const fc_ctl_options *options;
    flashcore_client *client;
    bool has_terminal;
    fc_ctl_view view;
    flashcore_info info;
    fc_ctl_counters looks[2];
    fc_ctl_counters *now, *earlier; /* the two looks, in turn */
    bool has_earlier;               /* earlier is of the same server's life */
    uint64_t now_ns, earlier_ns;
    fc_reason trouble; /* "": the last look was answered */
} watch;

/* Who serves may change with a restart. */
static fc_status greet(watch *w, fc_reason *out_reason)
{
    flashcore_status status = flashcore_hello(w->client, 0, &w->info);
    if (status != FLASHCORE_OK)
        return fc_ctl_fail(w->options, 0, status, flashcore_last_error(), out_reason);
    w->view.version = w->info.version;
    w->view.device = w->info.device;
    return FC_OK;
}

static fc_status look(watch *w)
{
    fc_ctl_counters *kept = w->earlier;
    fc_reason why = {""};
    fc_status st = fc_ctl_counters_collect(w->options, w->client, 0, kept, &why);
    if (st != FC_OK) {
        w->trouble = why;
        w->has_earlier = false;
        return st;
    }
    w->earlier = w->now;
    w->now = kept;
    w->earlier_ns = w->now_ns;
    w->now_ns = fc_clock_now_ns();
    /* Counters that went back are another process's. */
    bool is_same = fc_ctl_counters_get(w->now, "uptime_s", 0) >= fc_ctl_counters_get(w->earlier, "uptime_s", 0);
    if (!is_same || w->trouble.text[0] != '\0')
        st = greet(w, &why);
    w->has_earlier = is_same && w->earlier->count > 0 && w->trouble.text[0] == '\0';
    w->trouble = why;
    if (w->has_earlier)
        fc_ctl_view_note(&w->view, w->now, w->earlier, (double)(w->now_ns - w->earlier_ns) / 1e9);
    return st;
}

/* Everything on the screen, as one text. NULL: no memory. */
static char *draw(const watch *w)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL)
        return NULL;
    fc_ctl_view_screen(&w->view, w->now, w->has_earlier ? w->earlier : NULL, (double)(w->now_ns - w->earlier_ns) / 1e9,
                       out);
    if (w->trouble.text[0] != '\0')
        fprintf(out, "\n  %.76s\n", w->trouble.text);
    else
        fprintf(out, "\n  every %g s; q ends it\n", w->options->interval_s);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static bool show(const watch *w)
{
    if (w->has_terminal) {
        char *text = draw(w);
        bool is_shown = text != NULL && fc_ctl_screen_show(text);
        free(text);
        return is_shown;
    }
    if (w->trouble.text[0] != '\0')
        printf("%s\n", w->trouble.text);
    else if (w->has_earlier)
        fc_ctl_view_line(w->now, w->earlier, (double)(w->now_ns - w->earlier_ns) / 1e9, stdout);
    return fflush(stdout) == 0;
}

/* False: q was pressed. */
static bool await_next(const watch *w, uint64_t until_ns)
{
    if (!w->has_terminal) {
        fc_clock_sleep_until(until_ns);
        return true;
    }
    for (;;) {
        fc_ctl_wake wake = fc_ctl_screen_wait(until_ns);
        if (wake != FC_CTL_WAKE_RESIZED)
            return wake == FC_CTL_WAKE_TIME;
        show(w);
    }
}

static fc_status run(watch *w, fc_reason *out_reason)
{
    uint64_t interval_ns = (uint64_t)(w->options->interval_s * 1e9);
    /* A line needs two looks. */
    uint64_t count = w->options->count + !w->has_terminal;
    for (uint64_t done = 1;; done++) {
        if (!show(w))
            return fc_fail(FC_IO, out_reason, "standard output could not be written");
        if ((w->options->count != 0 && done == count) || !await_next(w, fc_clock_now_ns() + interval_ns))
            return FC_OK;
        look(w);
    }
}

fc_status fc_ctl_watch(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason)
{
    static watch w;
    w = (watch){.options = options, .client = client, .has_terminal = isatty(STDOUT_FILENO)};
    w.view = (fc_ctl_view){.url = options->urls.items[0], .is_utf8 = fc_text_use_locale()};
    w.now = &w.looks[0];
    w.earlier = &w.looks[1];
    fc_status st = greet(&w, out_reason);
    if (st == FC_OK)
        st = look(&w);
    if (st != FC_OK) {
        if (w.trouble.text[0] != '\0')
            *out_reason = w.trouble;
        return st;
    }
    if (w.has_terminal)
        fc_ctl_screen_open();
    st = run(&w, out_reason);
    fc_ctl_screen_close();
    return st;
}
