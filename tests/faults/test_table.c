/* The table of CUDA calls holds all that the engine makes: looked up in its objects, so that none can be forgotten.
 * What the kernels' own files call, which the fake does not hold, is the launch.
 */
#include "tests/e2e/harness.h"

#include <stdio.h>
#include <string.h>

static const char *const ROWS[] = {
#define FC_CUDA_FAULT(name, ...) #name,
#include "tests/faults/cuda.def"
};
enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0] };

/* These tell of other calls' errors. */
static const char *const CANNOT_FAIL[] = {"cudaGetLastError", "cudaPeekAtLastError", "cudaGetErrorName"};

static bool is_in(const char *name, const char *const *names, size_t count, bool *seen)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        if (seen != NULL)
            seen[i] = true;
        return true;
    }
    return false;
}

/* The runtime's functions are undefined symbols; the driver's, names to be looked up. */
START_TEST(every_cuda_call_has_a_row)
{
    char command[512], name[128];
    bool seen[ROW_COUNT] = {false};
    snprintf(command, sizeof command,
             "cd %s/obj/fake/kernels && { nm -u cuda_*.o | grep -oE '\\bcuda[A-Z][A-Za-z]*$'; "
             "strings -a cuda_*.o | grep -xE 'cu[A-Z][A-Za-z]+'; } | sort -u",
             fc_e2e_build_folder());
    FILE *found = popen(command, "r");
    ck_assert_ptr_nonnull(found);
    while (fscanf(found, "%127s", name) == 1)
        ck_assert_msg(is_in(name, ROWS, ROW_COUNT, seen) ||
                          is_in(name, CANNOT_FAIL, sizeof CANNOT_FAIL / sizeof CANNOT_FAIL[0], NULL),
                      "tests/faults/cuda.def has no row for %s", name);
    ck_assert_int_eq(pclose(found), 0);
    for (int i = 0; i < ROW_COUNT; i++)
        ck_assert_msg(seen[i] || strcmp(ROWS[i], "cudaLaunchKernelExC") == 0, "the engine does not call %s", ROWS[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("the table of CUDA calls");
    tcase_add_test(fc_e2e_case(suite, "table"), every_cuda_call_has_a_row);
    return fc_e2e_main(suite);
}
