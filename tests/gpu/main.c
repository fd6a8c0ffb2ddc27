/* test_kernels: the CUDA kernels against the reference, and their times. Needs a GPU and its driver, nothing else. */
#include "tests/gpu/cases.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const struct option OPTIONS[] = {
    {"small", no_argument, NULL, 's'},
    {"time", no_argument, NULL, 't'},
    {"json", required_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const char USAGE[] = "usage: test_kernels [--small]             run the correctness cases\n"
                            "       test_kernels --time [--json FILE]  time the kernels\n";

int main(int argc, char **argv)
{
    bool is_small = false, wants_times = false;
    const char *json_path = NULL;
    for (int option; (option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        if (option == 's') {
            is_small = true;
        } else if (option == 't') {
            wants_times = true;
        } else if (option == 'j') {
            json_path = optarg;
        } else {
            fputs(USAGE, option == 'h' ? stdout : stderr);
            return option == 'h' ? EXIT_SUCCESS : 2;
        }
    }
    int failed = wants_times ? times_run(json_path) : cases_run(is_small);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
