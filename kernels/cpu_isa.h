/* What an instruction set gives the `cpu` kernel: the steps of one tile. Only kernels/cpu*.c include this.
 *
 * A block is up to some hundred query rows that share K and V (rows of one head, or of the heads of one GQA group). For
 * each tile of keys it sees: pack K and V once into the layout the arithmetic wants, then per row group
 *     scores = Q . K^T,  softmax step on (running max, running sum, out),  out += P . V
 * so K and V are packed once a block and every inner loop reads L1 and L2 only.
 *
 * Arithmetic of a row depends on nothing but its own q, the keys and the tile boundaries, which start at key 0: keys a
 * row may not see contribute exact zeros, so neither the block a row falls in nor its neighbours change a bit.
 */
#ifndef FC_KERNELS_CPU_ISA_H
#define FC_KERNELS_CPU_ISA_H

#include "kernels/attention.h"

/* Rows of the caller's memory, one pointer each: head_dim elements, any alignment. */
typedef struct fc_cpu_rows {
    const void *const *row;
    int32_t count;
    fc_dtype dtype;
    int32_t head_dim;
} fc_cpu_rows;

#define FC_CPU_ROWS_MAX 256 /* of a group or a tile */

/* How scores become exponents of two: without softcap x = raw * factor; with it x = tanh(raw * inner) * factor. */
typedef struct fc_cpu_scaling {
    float factor;
    float inner;     /* 0: no softcap */
    double max_unit; /* what 1.0 of a running maximum is worth in lse: ln 2, corrected for the rounding of factor */
} fc_cpu_scaling;

/* One row group against one tile of packed keys. key_begin and key_end count from the tile's first key. */
typedef struct fc_cpu_step {
    int32_t rows;               /* live rows of the group, 1 to row_step */
    int32_t head_dim;           /* as asked */
    int32_t key_begin, key_end; /* columns to compute, multiples of the kernels' key_step */
    int32_t first_key;          /* of the tile, in the segment */
    bool is_masked;             /* false: every row sees every key in [key_begin, key_end) */
    const int32_t *row_begin;   /* [rows] first key each row sees, in the segment */
    const int32_t *row_end;     /* [rows] one past the last */
    const fc_cpu_scaling *scaling;
    const void *q;     /* packed rows of this group */
    const void *k, *v; /* packed tile */
    float *scores;     /* scores, then weights, in whatever form the ISA uses */
    float *row_max;    /* [row_step] in log2 units */
    float *row_sum;    /* [rows][FC_CPU_SUM_LANES] */
    float *out;        /* [row_step][out_stride] */
} fc_cpu_step;

#define FC_CPU_SUM_LANES 16

/* The rows of a group, all keys done. */
typedef struct fc_cpu_result {
    int32_t rows, head_dim;
    fc_dtype dtype;
    double max_unit;      /* what 1.0 of row_max is worth in lse */
    const float *row_max; /* as in fc_cpu_step; read up to whole vectors */
    const float *row_sum;
    const float *out;
    void *const *to; /* [rows] where each row's head_dim elements go, any alignment */
    float *lse;      /* [row_step] */
} fc_cpu_result;

typedef struct fc_cpu_kernels {
    int32_t row_step;     /* rows of a group */
    int32_t key_tile;     /* keys of a tile */
    int32_t key_step;     /* granularity of key_begin and key_end; divides key_tile */
    int32_t dim_step;     /* head_dim is padded with zeros to a multiple of this in packed rows and in out */
    int32_t part_count;   /* packed copies of each element (more than one where a number is split) */
    int32_t packed_bytes; /* of one packed element of one part */
    int32_t scores_bytes; /* of a step's scores */

    /* One group, one tile, one tile. Missing rows become zeros: of a group all, of a tile up to the next key_step. */
    void (*pack_q)(const fc_cpu_rows *rows, void *packed);
    void (*pack_k)(const fc_cpu_rows *rows, void *packed);
    void (*pack_v)(const fc_cpu_rows *rows, void *packed);
    void (*scores)(const fc_cpu_step *step);
    void (*softmax)(const fc_cpu_step *step);
    void (*accumulate)(const fc_cpu_step *step);
    void (*finish)(const fc_cpu_result *result); /* out / sum, in the caller's dtype, and lse */
    /* Around the steps of a block on each thread; NULL: nothing to do. */
    void (*enter)(void);
    void (*leave)(void);
} fc_cpu_kernels;

typedef struct fc_cpu_isa {
    const char *name;
    bool (*is_supported)(void);
    const fc_cpu_kernels *kernels[FC_DTYPE_COUNT];
} fc_cpu_isa;

extern const fc_cpu_isa fc_cpu_isa_portable, fc_cpu_isa_avx2, fc_cpu_isa_avx512, fc_cpu_isa_amx;

#endif
