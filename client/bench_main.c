/* bench_client: loads a server and reports. This file wires; it decides nothing but the exit code. */
#include "client/bench_options.h"
#include "client/bench_plot.h"
#include "client/bench_report.h"
#include "client/bench_run.h"
#include "client/tool_file.h"
#include "client/tool_text.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* The first signal ends the run early, with a report; the second ends the process. */
static void interrupt(int signal_number)
{
    (void)signal_number;
    fc_bench_interrupt();
}

static void show_progress(void *context, const fc_bench_progress *progress)
{
    const fc_canvas *canvas = context;
    fputs("\r", stderr);
    fc_picture_progress(progress, canvas, stderr);
    fputs("\x1b[K", stderr); /* erase to the line's end */
    fflush(stderr);
}

static bool save_json(const fc_bench_options *options, const fc_bench_outcome *outcome, fc_reason *reason)
{
    fc_json *json = fc_report_json(options, outcome);
    fc_status st = fc_json_save(json, options->json_path, reason);
    fc_json_destroy(json);
    return st == FC_OK;
}

static bool save_plot(const fc_bench_options *options, const fc_bench_outcome *outcome, fc_reason *reason)
{
    fc_file file;
    if (fc_file_create(options->plot_path, &file, reason) != FC_OK)
        return false;
    fc_plot_svg(options, outcome, file.stream);
    return fc_file_commit(&file, reason) == FC_OK;
}

/* False: something could not be written. */
static bool report(const fc_bench_options *options, const fc_bench_outcome *outcome, const fc_canvas *canvas)
{
    fc_reason reason;
    bool is_written = true;
    bool owns_stdout = (options->json_path != NULL && strcmp(options->json_path, "-") == 0) ||
                       (options->plot_path != NULL && strcmp(options->plot_path, "-") == 0);
    if (!options->is_quiet && !owns_stdout)
        fc_report_print(options, outcome, canvas, stdout);
    if (options->json_path != NULL && !save_json(options, outcome, &reason)) {
        fprintf(stderr, "bench_client: --json: %s\n", reason.text);
        is_written = false;
    }
    if (options->plot_path != NULL && !save_plot(options, outcome, &reason)) {
        fprintf(stderr, "bench_client: --plot: %s\n", reason.text);
        is_written = false;
    }
    if (fflush(stdout) != 0) {
        fprintf(stderr, "bench_client: standard output could not be written\n");
        is_written = false;
    }
    return is_written;
}

static int run(const fc_bench_options *options)
{
    fc_bench_outcome outcome;
    fc_reason reason = {""};
    fc_canvas canvas = {.columns = fc_text_terminal_columns(stdout, 100), .is_utf8 = fc_text_use_locale()};
    fc_canvas progress_canvas = {.columns = fc_text_terminal_columns(stderr, 80) - 1, .is_utf8 = canvas.is_utf8};
    bool has_terminal = isatty(STDERR_FILENO) && !options->is_quiet;
    struct sigaction once = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &once, NULL);
    sigaction(SIGTERM, &once, NULL);
    fc_status st = fc_bench_run(options, has_terminal ? show_progress : NULL, &progress_canvas, &outcome, &reason);
    if (has_terminal)
        fputs("\r\x1b[K", stderr);
    if (st != FC_OK) {
        fprintf(stderr, "bench_client: %s\n", reason.text[0] != '\0' ? reason.text : fc_status_text(st));
        return EXIT_FAILED;
    }
    bool is_written = report(options, &outcome, &canvas);
    bool has_failed = fc_report_failed(options, &outcome, stderr);
    fc_tally_fini(&outcome.total);
    return is_written && !has_failed ? EXIT_SUCCESS : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    static fc_bench_options options;
    fc_reason reason;
    switch (fc_bench_options_parse(argc, argv, &options, &reason)) {
    case FC_ARGS_RUN:
        return run(&options);
    case FC_ARGS_HELP:
        fc_args_help(&FC_BENCH_TOOL, -1, fc_text_terminal_columns(stdout, 80), stdout);
        return EXIT_SUCCESS;
    case FC_ARGS_VERSION:
        printf("bench_client %s, client API %u\n", FC_VERSION, flashcore_api_version());
        return EXIT_SUCCESS;
    case FC_ARGS_WRONG:
        break;
    }
    fprintf(stderr, "bench_client: %s\n", reason.text);
    return EXIT_USAGE;
}
