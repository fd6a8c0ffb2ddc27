/* How far two answers are apart. Pure, any thread. */
#ifndef FC_CLIENT_CTL_DIFFERENCE_H
#define FC_CLIENT_CTL_DIFFERENCE_H

#include "proto/vocab.h"

#include <stdint.h>

typedef struct fc_difference {
    double largest_absolute;   /* infinite when a NaN or an infinity stands on one side only */
    double relative_frobenius; /* ||b - a|| / ||a||; 0 when both are all zero, infinite when only a is */
    uint64_t largest_at;       /* index of the largest difference */
    uint64_t differing_count;  /* elements with different bits */
} fc_difference;

/* Compares count elements of dtype, any alignment. Equal bits never differ, NaN included. */
fc_difference fc_difference_of(fc_dtype dtype, const void *a, const void *b, uint64_t count);

#endif
