/* Memory the engine has registered (FC_MEMORY_REGISTERED), lent piece by piece for as long as a message lives. All of
 * it is taken when the pool is opened: nothing is registered while requests run.
 *
 * What a piece holds is what its last holder left there. Any thread, but for open and close.
 */
#ifndef FC_DAEMON_PINNED_POOL_H
#define FC_DAEMON_PINNED_POOL_H

#include "kernels/engine.h"

typedef struct fc_pinned_pool fc_pinned_pool;

#define FC_PINNED_POOL_STEP_BYTES (64 << 10) /* pieces are whole numbers of these */

/* size_bytes is rounded up to a step. The engine is borrowed until close. FC_NO_MEMORY, FC_IO, and what memory_register
 * says. */
fc_status fc_pinned_pool_open(const fc_engine_ops *ops, fc_engine *engine, size_t size_bytes, fc_pinned_pool **out_pool,
                              fc_reason *out_reason);

/* Nobody holds or uses a piece any more. NULL is fine. */
void fc_pinned_pool_close(fc_pinned_pool *pool);

/* NULL: no such piece is free now. */
void *fc_pinned_pool_take(fc_pinned_pool *pool, size_t size_bytes);
void fc_pinned_pool_give_back(fc_pinned_pool *pool, void *piece); /* as take gave it */

/* What kind of memory all its pieces are, for the engine. */
fc_memory_place fc_pinned_pool_place(const fc_pinned_pool *pool);

/* Bytes that are lent now. */
size_t fc_pinned_pool_lent_bytes(fc_pinned_pool *pool);

#endif
