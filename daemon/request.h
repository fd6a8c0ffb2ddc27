/* One request, from the moment its bytes are here to the moment its reply has left.
 *
 *     RECEIVED -> QUEUED -> RUNNING -> REPLYING -> DONE
 *
 * A rejected or directly answered request goes from RECEIVED to REPLYING; cancelled, expired and drained ones from
 * QUEUED to REPLYING; one whose peer is gone, or for whose reply there is no memory, ends DONE without one. The outcome
 * is a status carried along, never a state.
 *
 * The transport owns the memory and may use it again after DONE. In between, one owner at a time touches it: the
 * receiving thread, the queue (under the dispatch's lock), the lane, the thread that completes the send.
 */
#ifndef FC_DAEMON_REQUEST_H
#define FC_DAEMON_REQUEST_H

#include "daemon/packet_send.h"
#include "daemon/placement.h"
#include "daemon/queue.h"
#include "daemon/service.h"
#include "daemon/stats.h"
#include "kernels/engine.h"
#include "proto/codec.h"

typedef enum fc_request_state {
#define FC_REQUEST_STATE(symbol, name, gauge, next) symbol,
#include "daemon/request_state.def"
#undef FC_REQUEST_STATE
    FC_REQUEST_STATE_COUNT
} fc_request_state;

struct fc_request {
    fc_queue_item item;
    fc_request_state state; /* fc_request_set_state() alone writes it */
    const fc_reply_sink *sink;
    fc_stats *stats;
    fc_stats *own_stats;         /* not NULL: it is counted there instead of in the service's */
    const void *bytes;           /* the message; everything decoded points into it */
    fc_memory_place bytes_place; /* what memory that is, by the transport; {0}: plain */
    size_t size_bytes;
    uint64_t received_ns;
    bool is_counted; /* among its peer's requests in flight */
    fc_op op;
    fc_wire_attend attend; /* op attend, as decoded */
    uint32_t *kv_lens;     /* [batch] when the message has kv_len: ours, freed when the reply is sent */
    fc_problem problem;
    fc_placement placement;               /* released when the reply is sent */
    int reply_fds[FC_PACKET_DESCRIPTORS]; /* go with the reply, is_local; -1: none. Ours, closed when it is sent */
    void *reply_buffer;                   /* from the sink, */
    fc_memory_place reply_place;          /* which says what memory it is; {0}: plain */
    size_t reply_capacity_bytes;
    fc_codec_attend_reply writer; /* while RUNNING */
    fc_status reply_status;       /* once it is REPLYING */
    uint64_t ran_ns;              /* end of its launch; 0: it has not run, or failed */
    fc_wire_timing timing;        /* once it has run */
};

/* Makes memory a request that is DONE: what fc_service_receive() wants to be given. sink is borrowed. */
void fc_request_init(fc_request *request, const fc_reply_sink *sink);

/* The only way from one state to another: asserts that the step is one of request_state.def, moves the gauges, and
 * traces the step in the log. */
void fc_request_set_state(fc_request *request, fc_request_state next);

/* The launch it is in may never end, and may use all that it holds whenever it likes: message and reply, kv_lens,
 * arenas. From now on those are nobody's, to the end of the process. Then it is answered as usual, in fresh memory. */
void fc_request_abandon(fc_request *request);

/* Counts one that ran and whose reply has left. */
void fc_request_observe(const fc_request *request, uint64_t now_ns);

/* "B1 Hq8 Hkv8 Sq512 Sk512 D64", once its problem is known. Returns text. */
#define FC_SHAPE_BYTES 96
const char *fc_request_shape(const fc_request *request, char text[FC_SHAPE_BYTES]);

bool fc_request_state_may_follow(fc_request_state state, fc_request_state next);
const char *fc_request_state_name(fc_request_state state); /* "unknown" outside the enum */

/* The request an item is embedded in; NULL for NULL. */
static inline fc_request *fc_request_of(fc_queue_item *item)
{
    return item == NULL ? NULL : (fc_request *)((char *)item - offsetof(fc_request, item));
}

#endif
