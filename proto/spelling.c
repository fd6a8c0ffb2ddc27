#include "proto/spelling.h"

#include <stdint.h>
#include <string.h>

#define TYPED_BYTES_MAX 63

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* One row of Levenshtein's table at a time. */
size_t fc_spelling_distance(const char *name, const char *typed)
{
    size_t row[TYPED_BYTES_MAX + 1], typed_bytes = strlen(typed);
    if (typed_bytes > TYPED_BYTES_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= typed_bytes; j++)
        row[j] = j;
    for (size_t i = 1; name[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= typed_bytes; j++) {
            size_t above = row[j];
            row[j] = least(least(above, row[j - 1]) + 1, diagonal + (name[i - 1] != typed[j - 1]));
            diagonal = above;
        }
    }
    return row[typed_bytes];
}
