/* A TCP socket whose close() takes minutes: it lingers over bytes that nobody will read. What a peer must not be able
 * to leave to others to close.
 */
#ifndef FC_TESTS_LINGERING_H
#define FC_TESTS_LINGERING_H

#include <stdbool.h>

/* The end to pass on; *out_reader is the end that does not read. Close the reader first: then nothing lingers. */
int lingering_open(int *out_reader);

/* Does this system know how to refuse descriptors at all? */
bool lingering_can_be_refused(void);

#endif
