/* See bucket.h. */
#include "daemon/bucket.h"

#include "daemon/clock.h"

bool fc_bucket_take(fc_bucket *bucket, uint64_t per_second, uint64_t now_ns, uint64_t *out_wait_ns)
{
    uint64_t start_ns = bucket->full_ns > now_ns ? bucket->full_ns : now_ns;
    uint64_t full_ns = start_ns + FC_NS_PER_S / per_second;
    if (full_ns - now_ns > FC_NS_PER_S) {
        *out_wait_ns = full_ns - now_ns - FC_NS_PER_S;
        return false;
    }
    bucket->full_ns = full_ns;
    return true;
}
