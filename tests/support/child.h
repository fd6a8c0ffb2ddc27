/* Processes forked by a test. */
#ifndef FC_TESTS_SUPPORT_CHILD_H
#define FC_TESTS_SUPPORT_CHILD_H

/* To be called first in a forked child that uses ck_assert...: those write to the file in which Check keeps the test's
 * messages, and a child that shares it tears its parent's messages, all the more when it is killed. From here on the
 * child's go to /dev/null; its failed assertions still end it. */
void fc_child_leave_check(void);

#endif
