/* See unread.h. */
#include "daemon/unread.h"

void fc_unread_init(fc_unread *unread, uint32_t slot_count, bool is_wanted)
{
    *unread = (fc_unread){.slot_count = slot_count, .is_wanted = is_wanted};
    fc_id_table_init(&unread->owners);
}

void fc_unread_fini(fc_unread *unread)
{
    fc_id_table_fini(&unread->owners);
}

void fc_unread_add(fc_unread *unread, uint64_t owner, uint32_t reply_count)
{
    uint64_t *count = reply_count > 0 ? fc_id_table_put(&unread->owners, owner) : NULL;
    unread->reply_count += reply_count;
    if (count != NULL)
        *count += reply_count;
}

uint64_t fc_unread_patience_ns(const fc_unread *unread, uint64_t owner)
{
    uint64_t half = unread->slot_count / 2;
    const uint64_t *count = fc_id_table_find(&unread->owners, owner);
    /* Where all hold more than the half, one at least holds more than its share of it. */
    if (unread->reply_count > half && count != NULL && *count * unread->owners.count > half)
        return FC_UNREAD_SHORT_NS;
    return unread->is_wanted ? FC_UNREAD_AFTER_NS : UINT64_MAX;
}
