/* The terminal while a live view is on it: another screen, no cursor, keys read as they are pressed; and as it was
 * before when the view ends, by key, by signal or while it is stopped (^Z).
 *
 * One at a time, main thread. Standard output is the terminal; keys come from standard input if that is one too.
 */
#ifndef FC_CLIENT_CTL_SCREEN_H
#define FC_CLIENT_CTL_SCREEN_H

#include <stdbool.h>
#include <stdint.h>

void fc_ctl_screen_open(void);
void fc_ctl_screen_close(void); /* harmless when none is open */

/* Shows text (lines, each with its end) in place of what was there, cut to the terminal's size. False: it cannot be
 * written. */
bool fc_ctl_screen_show(const char *text);

typedef enum fc_ctl_wake { FC_CTL_WAKE_TIME, FC_CTL_WAKE_QUIT, FC_CTL_WAKE_RESIZED } fc_ctl_wake;

/* Waits until until_ns (fc_clock_now_ns()), the key q, or another size of the terminal. */
fc_ctl_wake fc_ctl_screen_wait(uint64_t until_ns);

#endif
