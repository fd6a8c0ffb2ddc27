/* How the emulator says what went wrong: one paragraph on stderr, the lines of code included, a few a program. */
#ifndef FC_TESTS_EMULATE_REPORT_H
#define FC_TESTS_EMULATE_REPORT_H

namespace emulate
{

/* Catches bad accesses and endless loops of device code. */
void report_init();

/* A block runs, or does not: only while one does is an endless loop looked for. */
void report_watch(bool is_running);

/* Counts and prints one failure of the running thread. False: enough has been printed. */
bool report(const char *text);
/* More of it. */
void report_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The lines of code that led here. */
void report_lines();

/* For tests that want failures: the text of the last one ("": none since the last call), which then counts no more. */
const char *report_take();
/* Prints none of them. */
void report_silently();

} // namespace emulate

#endif
