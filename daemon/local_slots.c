/* See local_slots.h. */
#include "daemon/local_slots.h"

#include <stdlib.h>

void fc_local_slots_init(fc_local_slots *slots, fc_service *service, const fc_reply_sink *sink)
{
    *slots = (fc_local_slots){.service = service, .sink = sink};
    pthread_mutex_init(&slots->lock, NULL);
}

void fc_local_slots_fini(fc_local_slots *slots)
{
    for (fc_local_slot *s = slots->free, *next; s != NULL; s = next) {
        next = s->next;
        free(s);
    }
    pthread_mutex_destroy(&slots->lock);
}

fc_local_slot *fc_local_slots_take(fc_local_slots *slots)
{
    pthread_mutex_lock(&slots->lock);
    fc_local_slot *s = slots->free;
    if (s != NULL) {
        slots->free = s->next;
    } else if (slots->count < fc_service_request_slots(slots->service)) {
        /* Not cleared: most of it is never touched, and so takes no memory. */
        s = malloc(sizeof *s);
        slots->count += s != NULL;
        if (s != NULL)
            fc_request_init(&s->request, slots->sink);
    }
    slots->is_starved = s == NULL;
    pthread_mutex_unlock(&slots->lock);
    return s;
}

bool fc_local_slots_give(fc_local_slots *slots, fc_local_slot *slot)
{
    pthread_mutex_lock(&slots->lock);
    slot->next = slots->free;
    slots->free = slot;
    bool was_starved = atomic_exchange(&slots->is_starved, false);
    pthread_mutex_unlock(&slots->lock);
    return was_starved;
}
