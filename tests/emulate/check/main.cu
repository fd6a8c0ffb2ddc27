/* Is the emulator itself right? Instructions against their plain definitions, and mistakes that it has to report. */
#include "tests/emulate/check/rig.h"

int main()
{
    SRunner *runner = srunner_create(warp_suite());
    srunner_add_suite(runner, hopper_suite());
    srunner_add_suite(runner, races_suite());
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
