/* See cases.h. */
#include "tests/gpu/cases.h"

#include <math.h>
#include <stdio.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

typedef struct shape_row {
    int32_t batch, q_heads, kv_heads, q_len, kv_len;
    arrangement how;
} shape_row;

typedef struct condition_row {
    const char *name;
    fc_causal causal;
    int64_t left, right;
    float scale; /* 0: 1 / sqrt(head_dim); -1: 0 */
    float softcap, q_spread;
    unsigned outlier_every;
    bool has_kv_lens;
} condition_row;

/* The first three stand for the rest where there is no room for all. */
static const condition_row CONDITIONS[] = {
    {"bottom_right kv_len", FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 0, 0, 1, 0, true},
    {"full", FC_CAUSAL_NONE, -1, -1, 0, 0, 1, 0, false},
    {"window kv_len", FC_CAUSAL_NONE, 7, 3, 0, 0, 1, 0, true},
    {"outliers", FC_CAUSAL_NONE, -1, -1, 0, 0, 1, 200, false},
    {"large logits", FC_CAUSAL_NONE, -1, -1, 0, 0, 100, 0, false},
    {"kv_len", FC_CAUSAL_NONE, -1, -1, 0, 0, 1, 0, true},
    {"top_left", FC_CAUSAL_TOP_LEFT, -1, -1, 0, 0, 1, 0, false},
    {"causal window", FC_CAUSAL_TOP_LEFT, 20, -1, 0, 0, 1, 0, false},
    {"softcap", FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 0, 5, 4, 0, false},
    {"scale 0", FC_CAUSAL_BOTTOM_RIGHT, -1, -1, -1, 0, 1, 0, false},
};
static const condition_row CAUSAL_OR_NOT[] = {
    {"full", FC_CAUSAL_NONE, -1, -1, 0, 0, 1, 0, false},
    {"bottom_right", FC_CAUSAL_BOTTOM_RIGHT, -1, -1, 0, 0, 1, 0, false},
};

static const shape_row SHAPES[] = {
    {2, 4, 2, 0, 5, ARRANGED_BSHD},     {2, 4, 1, 1, 1, ARRANGED_BHSD},         {1, 2, 2, 1, 0, ARRANGED_BHSD},
    {2, 4, 2, 15, 127, ARRANGED_BSHD},  {1, 3, 3, 16, 128, ARRANGED_WITH_GAPS}, {2, 4, 1, 17, 129, ARRANGED_BHSD},
    {2, 6, 2, 113, 203, ARRANGED_BSHD}, {1, 2, 1, 799, 3, ARRANGED_WITH_GAPS},  {3, 2, 2, 1, 700, ARRANGED_WITH_GAPS},
    {2, 16, 2, 1, 1500, ARRANGED_BHSD}, {1, 8, 1, 5, 333, ARRANGED_WITH_GAPS},  {1, 2, 1, 1023, 1024, ARRANGED_BHSD},
};

/* Around the edges of every tile a kernel here may have: 16 to 256 rows or keys. The second of a pair has the keys of
 * one tile, the first those of two. */
#define EDGE(n)                                                                                                        \
    {1, 2, 1, n - 1, 2 * n + 1, ARRANGED_BSHD}, {1, 2, 1, 33, n - 1, ARRANGED_BHSD},                                   \
        {1, 2, 1, n, 2 * n, ARRANGED_BSHD}, {1, 2, 1, 33, n, ARRANGED_BHSD},                                           \
        {1, 2, 1, n + 1, 2 * n - 1, ARRANGED_BSHD},                                                                    \
    {                                                                                                                  \
        1, 2, 1, 33, n + 1, ARRANGED_BHSD                                                                              \
    }
static const shape_row EDGES[] = {EDGE(16), EDGE(64), EDGE(80), EDGE(112), EDGE(128), EDGE(176), EDGE(192), EDGE(256)};

static const shape_row ONE[] = {{2, 4, 2, 67, 131, ARRANGED_BSHD}};
static const shape_row LARGE[] = {{1, 2, 1, 4224, 4224, ARRANGED_BHSD}};
static const shape_row LARGEST[] = {{1, 2, 1, 16384, 16384, ARRANGED_BSHD}};
static const shape_row REPEATED[] = {
    {2, 4, 2, 113, 203, ARRANGED_BSHD}, {1, 2, 1, 300, 515, ARRANGED_BHSD}, {2, 8, 2, 1, 1500, ARRANGED_BHSD}};
static const shape_row WISHED[] = {{2, 4, 2, 65, 130, ARRANGED_BSHD},
                                   {1, 4, 1, 300, 515, ARRANGED_WITH_GAPS},
                                   {2, 8, 2, 1, 700, ARRANGED_BHSD},
                                   {1, 8, 1, 5, 333, ARRANGED_BSHD},
                                   {1, 2, 2, 193, 1, ARRANGED_BHSD}};
static const shape_row SMALL[] = {
    {2, 4, 2, 17, 129, ARRANGED_BSHD}, {1, 4, 1, 5, 70, ARRANGED_WITH_GAPS}, {1, 2, 1, 66, 131, ARRANGED_BHSD}};
static const shape_row SMALL_EMPTY[] = {{1, 2, 2, 1, 0, ARRANGED_BHSD}, {2, 2, 1, 0, 5, ARRANGED_BHSD}};
static const shape_row SMALL_ONE[] = {{1, 2, 1, 9, 140, ARRANGED_WITH_GAPS}};
static const shape_row SMALL_WISHED[] = {{1, 4, 2, 19, 300, ARRANGED_BSHD}, {1, 4, 1, 1, 200, ARRANGED_BHSD}};

static const int32_t BOTH[] = {64, 128}, NARROW[] = {64}, WIDE[] = {72, 256}, MAIN[] = {64, 128, 256};
static const int32_t ODD[] = {8, 72, 256};
static const int32_t EVERY[] = {8,   16,  24,  32,  40,  48,  56,  64,  72,  80,  88,  96,  104, 112, 120, 128,
                                136, 144, 152, 160, 168, 176, 184, 192, 200, 208, 216, 224, 232, 240, 248, 256};

typedef struct group_row {
    fc_dtype dtype;
    const int32_t *head_dims;
    size_t head_dim_count;
    const shape_row *shapes;
    size_t shape_count;
    const condition_row *conditions;
    size_t condition_count;
    int64_t row_step;
    unsigned extras;
    bool is_small;
} group_row;

#define LIST(table) table, COUNT(table)

/* 1023 x 1024 and up are sampled: an odd step meets every row of a tile, here and there. */
static const group_row GROUPS[] = {
    {FC_F16, LIST(BOTH), LIST(SMALL), CONDITIONS, 3, 1, 0, true},
    {FC_F16, LIST(NARROW), LIST(SMALL_EMPTY), CONDITIONS, 2, 1, 0, true},
    {FC_F16, LIST(ODD), LIST(SMALL_ONE), CONDITIONS, 1, 1, 0, true},
    {FC_BF16, LIST(NARROW), LIST(SMALL), CONDITIONS, 1, 1, 0, true},
    {FC_F32, LIST(NARROW), LIST(SMALL), CONDITIONS, 1, 1, 0, true},
    {FC_F16, LIST(MAIN), LIST(SMALL_WISHED), CONDITIONS, 1, 1, EXTRA_WISHES, true},
    {FC_F16, LIST(BOTH), LIST(SHAPES), LIST(CONDITIONS), 1, 0, false},
    {FC_BF16, LIST(BOTH), LIST(SHAPES), CONDITIONS, 5, 1, 0, false},
    {FC_F32, LIST(NARROW), LIST(SHAPES), LIST(CONDITIONS), 1, 0, false},
    {FC_F16, LIST(WIDE), LIST(SHAPES), CONDITIONS, 3, 1, 0, false},
    {FC_F16, LIST(MAIN), LIST(EDGES), CAUSAL_OR_NOT + 1, 1, 1, 0, false},
    {FC_F16, LIST(EVERY), LIST(ONE), CONDITIONS, 1, 1, 0, false},
    {FC_BF16, LIST(EVERY), LIST(ONE), CONDITIONS, 1, 1, 0, false},
    {FC_F32, LIST(EVERY), LIST(ONE), CONDITIONS, 1, 1, 0, false},
    {FC_F16, LIST(MAIN), LIST(WISHED), CONDITIONS, 3, 1, EXTRA_WISHES, false},
    {FC_BF16, LIST(MAIN), LIST(WISHED), CONDITIONS, 1, 1, EXTRA_WISHES, false},
    {FC_F16, LIST(MAIN), LIST(REPEATED), CONDITIONS, 1, 1, EXTRA_REPEATS, false},
    {FC_BF16, LIST(NARROW), LIST(REPEATED), CONDITIONS, 1, 1, EXTRA_REPEATS, false},
    {FC_F32, LIST(NARROW), LIST(REPEATED), CONDITIONS, 1, 1, EXTRA_REPEATS, false},
    {FC_F16, LIST(MAIN), LIST(LARGE), LIST(CAUSAL_OR_NOT), 83, 0, false},
    {FC_BF16, LIST(BOTH), LIST(LARGE), CAUSAL_OR_NOT + 1, 1, 83, 0, false},
    {FC_F32, LIST(NARROW), LIST(LARGE), CAUSAL_OR_NOT, 1, 83, 0, false},
    {FC_F16, LIST(BOTH), LIST(LARGEST), CAUSAL_OR_NOT + 1, 1, 501, 0, false},
};

static size_t group_size(const group_row *g)
{
    return g->head_dim_count * g->shape_count * g->condition_count;
}

size_t case_count(void)
{
    size_t total = 0;
    for (size_t i = 0; i < COUNT(GROUPS); i++)
        total += group_size(&GROUPS[i]);
    return total;
}

static gpu_case make_case(const group_row *g, int32_t head_dim, const shape_row *s, const condition_row *c)
{
    static const char *const ARRANGEMENTS[] = {
        [ARRANGED_BHSD] = "bhsd", [ARRANGED_BSHD] = "bshd", [ARRANGED_WITH_GAPS] = "gaps"};
    gpu_case made = {.problem = {.dtype = g->dtype,
                                 .causal = c->causal,
                                 .batch = s->batch,
                                 .q_heads = s->q_heads,
                                 .kv_heads = s->kv_heads,
                                 .q_len = s->q_len,
                                 .kv_len = s->kv_len,
                                 .head_dim = head_dim,
                                 .window_left = c->left,
                                 .window_right = c->right,
                                 .scale = c->scale < 0 ? 0 : 1 / sqrtf((float)head_dim),
                                 .softcap = c->softcap},
                     .has_kv_lens = c->has_kv_lens,
                     .how = s->how,
                     .q_spread = c->q_spread,
                     .outlier_every = c->outlier_every,
                     .row_step = g->row_step,
                     .extras = g->extras,
                     .is_small = g->is_small};
    snprintf(made.name, sizeof made.name, "%s D%d %dx%d/%d %dx%d %s %s", fc_dtype_name(g->dtype), (int)head_dim,
             (int)s->batch, (int)s->q_heads, (int)s->kv_heads, (int)s->q_len, (int)s->kv_len, ARRANGEMENTS[s->how],
             c->name);
    return made;
}

gpu_case case_at(size_t index)
{
    const group_row *g = GROUPS;
    while (index >= group_size(g))
        index -= group_size(g++);
    const condition_row *c = &g->conditions[index % g->condition_count];
    index /= g->condition_count;
    const shape_row *s = &g->shapes[index % g->shape_count];
    return make_case(g, g->head_dims[index / g->shape_count], s, c);
}
