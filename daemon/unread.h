/* Replies that their peers do not read, by owner: each holds a slot that others may need. Says how long a connection
 * may leave one unread, once all are counted.
 *
 * Pure but for the memory it takes: no locks, no clock.
 */
#ifndef FC_DAEMON_UNREAD_H
#define FC_DAEMON_UNREAD_H

#include "daemon/clock.h"
#include "daemon/id_table.h"

#include <stdbool.h>

/* Where slots run out, connections that have not taken a reply for so long are cut: what they hold, others need; also
 * while the service drains, whose end they hold up. Longer than a busy machine keeps an honest client from running. */
#define FC_UNREAD_AFTER_NS (3 * FC_NS_PER_S)
/* And so soon those of an owner whose unread replies hold more than its share. */
#define FC_UNREAD_SHORT_NS (250 * FC_NS_PER_MS)

typedef struct fc_unread {
    fc_id_table owners; /* how many replies each has */
    uint64_t reply_count;
    uint32_t slot_count;
    bool is_wanted;
} fc_unread;

/* Of so many slots. is_wanted: what any of them holds is needed now. */
void fc_unread_init(fc_unread *unread, uint32_t slot_count, bool is_wanted);
void fc_unread_fini(fc_unread *unread);

/* A connection's. owner: not 0. An owner there is no memory for counts as one within its share. */
void fc_unread_add(fc_unread *unread, uint64_t owner, uint32_t reply_count);

/* FC_UNREAD_SHORT_NS: together they hold more than half the slots, and this owner more than its share of that half;
 * FC_UNREAD_AFTER_NS: a slot is wanted; UINT64_MAX: nobody is in need of one. */
uint64_t fc_unread_patience_ns(const fc_unread *unread, uint64_t owner);

#endif
