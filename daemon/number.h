/* Numbers in what users write: decimal digits and nothing else, no sign, no blanks. Pure.
 */
#ifndef FC_DAEMON_NUMBER_H
#define FC_DAEMON_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Reads the digits that text begins with and moves it past them. False: there are none, or it is more than max. */
bool fc_number_read(const char **text, uint64_t max, uint64_t *out_number);

/* Is all of text the number of a port? At most five digits. */
bool fc_number_read_port(const char *text, uint16_t *out_port);

#endif
