/* test_kernels: the CUDA kernels against the reference. Needs a GPU and its driver, nothing else. Exits with 0: all
 * right, 1: wrong answers, 2: not understood, 3: CUDA failed, which may be a kernel's doing. */
#include "kernels/cuda_launch.h"
#include "tests/gpu/suite.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option OPTIONS[] = {
    {"kernel", required_argument, NULL, 'k'}, {"case", required_argument, NULL, 'c'},
    {"small", no_argument, NULL, 's'},        {"seconds", required_argument, NULL, 't'},
    {"json", required_argument, NULL, 'j'},   {"list", no_argument, NULL, 'l'},
    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
};

static const char USAGE[] = "usage: test_kernels [options]\n"
                            "  --kernel NAME     this rung alone\n"
                            "  --case SUBSTRING  only cases whose names hold it\n"
                            "  --small           only cases a sanitizer or an emulated GPU gets through\n"
                            "  --seconds N       stop after N seconds, with cases from all over the table\n"
                            "  --json FILE       write the raw figures of every trial\n"
                            "  --list            print the rungs there are and stop\n";

static int list(void)
{
    for (int kernel = 0; kernel < FC_KERNEL_COUNT; kernel++) {
        if (fc_cuda_launch_find((fc_kernel)kernel) != NULL)
            printf("%s\n", fc_kernel_name((fc_kernel)kernel));
    }
    return EXIT_SUCCESS;
}

static int misunderstood(const char *what)
{
    fprintf(stderr, "%s\n%s", what, USAGE);
    return 2;
}

int main(int argc, char **argv)
{
    suite_options options = {.only = FC_KERNEL_COUNT};
    for (int option; (option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        if (option == 'k') {
            if (!fc_kernel_from_name(optarg, strlen(optarg), &options.only) ||
                fc_cuda_launch_find(options.only) == NULL)
                return misunderstood("no such CUDA kernel");
        } else if (option == 'c') {
            options.substring = optarg;
        } else if (option == 's') {
            options.is_small = true;
        } else if (option == 't') {
            options.seconds = strtod(optarg, NULL);
        } else if (option == 'j') {
            options.json_path = optarg;
        } else if (option == 'l') {
            return list();
        } else if (option == 'h') {
            return printf("%s", USAGE) > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        } else {
            return misunderstood("not an option");
        }
    }
    return suite_run(&options) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
