/* How often something may happen: so many times a second, and as many at once after a second of quiet. Pure: the time
 * is passed in. Starts as {0}.
 */
#ifndef FC_DAEMON_BUCKET_H
#define FC_DAEMON_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fc_bucket {
    uint64_t full_ns; /* when all that was taken will have come back */
} fc_bucket;

/* Takes one. False: there is none left, and *out_wait_ns is how long until there is. per_second: 1 to 1e9. */
bool fc_bucket_take(fc_bucket *bucket, uint64_t per_second, uint64_t now_ns, uint64_t *out_wait_ns);

#endif
