/* flashcorectl: talks to a server by hand. This file wires; it decides nothing but the exit code. */
#include "client/ctl_commands.h"
#include "client/ctl_options.h"
#include "client/tool_server.h"
#include "client/tool_text.h"

#include <stdlib.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef fc_status (*command_function)(const fc_ctl_options *options, flashcore_client *client, fc_reason *out_reason);

static const command_function FUNCTIONS[] = {
#define FC_CTL_FUNCTION(symbol, name, function, usage, summary, details) function,
    FC_CTL_COMMANDS(FC_CTL_FUNCTION)
#undef FC_CTL_FUNCTION
};

static int run(const fc_ctl_options *options, int command)
{
    flashcore_client *client = NULL;
    fc_reason reason = {""};
    fc_server_manner manner = {.timeout_s = options->timeout_s, .inflight_max = 1, .path = FLASHCORE_PATH_AUTO};
    fc_status st = FC_OK;
    if (command < FC_CTL_DRAIN)
        st = fc_server_open(&options->urls, &options->tls, &manner, &client, &reason);
    if (st == FC_OK)
        st = FUNCTIONS[command](options, client, &reason);
    flashcore_client_destroy(client);
    if (st != FC_OK)
        fprintf(stderr, "flashcorectl: %s\n", reason.text[0] != '\0' ? reason.text : fc_status_text(st));
    if (fflush(stdout) != 0) {
        fprintf(stderr, "flashcorectl: standard output could not be written\n");
        return EXIT_FAILED;
    }
    return st == FC_OK ? EXIT_SUCCESS : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    static fc_ctl_options options;
    fc_reason reason;
    int command = -1;
    fc_text_use_locale();
    switch (fc_ctl_options_parse(argc, argv, &options, &command, &reason)) {
    case FC_ARGS_RUN:
        return run(&options, command);
    case FC_ARGS_HELP:
        fc_args_help(&FC_CTL_TOOL, command, fc_text_terminal_columns(stdout, 80), stdout);
        return EXIT_SUCCESS;
    case FC_ARGS_VERSION:
        printf("flashcorectl %s, client API %u\n", FC_VERSION, flashcore_api_version());
        return EXIT_SUCCESS;
    case FC_ARGS_WRONG:
        break;
    }
    fprintf(stderr, "flashcorectl: %s\n", reason.text);
    return EXIT_USAGE;
}
