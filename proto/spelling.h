/* How far a misspelt name is from one there is: what "did you mean" rests on. Pure function, any thread. */
#ifndef FC_PROTO_SPELLING_H
#define FC_PROTO_SPELLING_H

#include <stddef.h>

/* Levenshtein's distance in bytes; SIZE_MAX when typed is too long (over 63 bytes) to be a slip. */
size_t fc_spelling_distance(const char *name, const char *typed);

#endif
