/* The net's insides, shared by net.c (thread, exchanges, time) and link.c (connections, framing).
 *
 * net->lock guards what is marked so; all else belongs to the net's thread, which is whichever has the turn
 * (fc_net_turn). The lock is never held while a notification runs.
 */
#ifndef FC_CLIENT_NET_H
#define FC_CLIENT_NET_H

#include "client/link.h"
#include "proto/tls.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define FC_NET_EXCHANGES_MAX 65536
#define FC_FRAME_HEADER_MAX 13 /* ipc: 1, length 8, request id 4 */
#define FC_RECEIVE_BYTES 16384
#define FC_LINK_RETRY_NS_MIN (20u * 1000000u)

/* Also a frame: what a link writes is a queue of these. The header lies right before the body, at its end of header[],
 * so that both go out with one send(). */
struct fc_message {
    fc_message *next;
    fc_exchange *exchange;                   /* NULL: nobody waits for the reply any more */
    size_t written_bytes;                    /* of header and body */
    size_t size_bytes;                       /* of the body */
    int descriptors[FC_MESSAGE_DESCRIPTORS]; /* that came with it; -1: none. Closed with the message */
    uint8_t header_bytes;
    uint8_t header[FC_FRAME_HEADER_MAX];
    uint8_t bytes[];
};

typedef enum fc_link_state {
    FC_LINK_DOWN,
    FC_LINK_CONNECTING,
    FC_LINK_SECURING, /* TLS only */
    FC_LINK_GREETING,
    FC_LINK_UP
} fc_link_state;

struct fc_link {
    fc_net *net;
    uint32_t index;
    bool is_ipc;
    fc_link *beside;               /* of a link of packets; NULL: a stream */
    struct fc_link_secure *secure; /* TLS, see link_tls.c; NULL: none */
    struct fc_link_address *addresses;
    uint32_t address_count, address_next;

    fc_link_state state;
    uint64_t next_ns; /* DOWN: when to connect; CONNECTING, GREETING: when to give up */
    uint64_t retry_delay_ns;
    uint32_t connection_id;
    uint8_t greeting[8];
    uint32_t greeting_bytes;

    /* Reading: small messages out of buffer, the rest of a large one straight into body (NULL: thrown away). */
    uint8_t buffer[FC_RECEIVE_BYTES];
    size_t buffer_begin, buffer_end;
    bool is_in_body;
    fc_message *body;
    uint32_t body_id;
    uint64_t body_done_bytes, body_size_bytes;

    /* net->lock; written by the net's thread alone, but for the queue and is_broken. */
    int fd;         /* -1: none */
    int down_error; /* errno of the last attempt or connection that ended; 0: none has. EKEYREJECTED: see down_why */
    fc_reason down_why;
    bool is_up, is_broken;
    fc_message *queue_first, **queue_last;
};

typedef enum fc_exchange_phase {
    FC_EXCHANGE_IDLE,
    FC_EXCHANGE_QUEUED, /* no byte written */
    FC_EXCHANGE_SENT,
    FC_EXCHANGE_SLEEPING,
    FC_EXCHANGE_READY /* event is set and will be notified */
} fc_exchange_phase;

struct fc_exchange {
    fc_net *net;
    fc_exchange_notify notify;
    void *owner;
    uint32_t number; /* in net->exchanges */

    /* net->lock. */
    fc_exchange_phase phase;
    uint32_t generation, id; /* id: on the wire, of the request under way */
    uint64_t message_id;     /* within the message, for links of packets */
    bool is_attended;        /* see fc_exchange_set_attended() */
    fc_link *link;
    uint64_t deadline_ns;
    fc_exchange *previous, *next; /* net->active: QUEUED, SENT, SLEEPING */
    fc_exchange_event event;
    fc_status status;
    fc_message *message;
    fc_exchange *next_ready;
};

/* Who does the net's work: reads, writes, connects, keeps time. Handing the turn over takes two wake-ups, so a thread
 * that waits for one answer after another, and nothing else goes on, keeps it from each to the next: in between nobody
 * has it, for a while. Whenever an exchange is under way, somebody has it or is about to. */
typedef enum fc_net_turn {
    FC_NET_TURN_OWN,   /* the net's own thread */
    FC_NET_TURN_NONE,  /* that thread rests, and resumes when it is called or has rested */
    FC_NET_TURN_CALLER /* a thread inside fc_exchange_attend() */
} fc_net_turn;

struct fc_net {
    fc_net_options options;
    fc_link **links;
    struct pollfd *polled; /* [1 + link_count]; [0] is wake_fd */
    uint32_t link_count, next_connection_id;
    uint64_t random_state;
    int wake_fd;
    pthread_t thread;
    bool is_started;

    pthread_mutex_t lock;
    bool is_stopping;
    fc_net_turn turn;
    pthread_cond_t turn_changed; /* or something that whoever waits for it looks at; CLOCK_MONOTONIC */
    bool is_turn_wanted;         /* OWN: a caller waits for it */
    bool is_turn_called_back;    /* CALLER, NONE: the net's thread is needed */
    uint64_t resting_until_ns;   /* NONE */
    uint32_t lonely_calls;       /* attended one after the other with nothing else under way */
    uint64_t polling_until_ns;   /* the thread sleeps till then at most; 0: it does not sleep */
    fc_exchange **exchanges;
    uint32_t exchange_count, exchange_capacity;
    fc_exchange *active;
    fc_exchange *ready_first, **ready_last;
};

/* --- net.c, for link.c: all under net->lock ----------------------------------------------------------------------- */

/* Takes the exchange off the active list and leaves its event to be notified by the net's thread. */
void fc_net_end_exchange(fc_exchange *exchange, fc_exchange_event event, fc_status status, fc_message *message);

/* The exchange that waits for that request id on that link, or NULL; on a link of packets, for that message's id. */
fc_exchange *fc_net_find_exchange(fc_net *net, const fc_link *link, uint32_t id);
fc_exchange *fc_net_find_message(fc_net *net, const fc_link *link, uint64_t message_id);

/* Makes the thread look again, if it sleeps. */
void fc_net_wake(fc_net *net);

/* Needs no lock, before the net starts: a new link, without a socket, becomes the net's next one. */
void fc_net_add_link(fc_net *net, fc_link *link);

/* --- link.c, for net.c -------------------------------------------------------------------------------------------- */

void fc_link_destroy(fc_link *link);

/* --- link.c, for link_packets.c: on the net's thread -------------------------------------------------------------- */

/* Of one that is up and about to be dropped for another reason than its own end: takes the replies that stand in the
 * socket. A server that goes has answered first, and its end may be noticed elsewhere before they are read. */
void fc_link_read_rest(fc_link *link);

/* The connection, or the attempt at one, is over, error says why. */
void fc_link_drop(fc_link *link, int error, uint64_t now_ns);

/* --- link_packets.c, for link.c: on the net's thread -------------------------------------------------------------- */

/* A socket that connects there, or -1 and errno. */
int fc_link_packets_socket(const fc_link *link);

/* Is the process at the other end the one that `beside` is connected to? */
bool fc_link_packets_is_same_server(const fc_link *link);

/* Takes what has come. False: the connection is over. */
bool fc_link_packets_read(fc_link *link);

/* --- link_tls.c, for link.c: on the net's thread, links with `secure` only ------------------------------------------
 */

/* Before the net starts: the link's connections will be TLS, with a server whose certificate is for that name.
 * FC_NO_MEMORY. */
fc_status fc_link_tls_create(fc_link *link, fc_tls *tls, const char *server_name);
void fc_link_tls_destroy(fc_link *link); /* also without `secure` */

/* A connection begins, and ends. False: no memory, or a name that cannot be one. */
bool fc_link_tls_begin(fc_link *link);
void fc_link_tls_end(fc_link *link);

/* 1: done; 0: later; -1: over. */
int fc_link_tls_handshake(fc_link *link);

/* As recv() and send() that do not block: bytes, or -1 and errno; 0 of recv: over. What send takes may leave later, by
 * flush; -1 of that: broken. */
ssize_t fc_link_tls_recv(fc_link *link, void *bytes, size_t size_bytes);
ssize_t fc_link_tls_send(fc_link *link, const void *bytes, size_t size_bytes);
int fc_link_tls_flush(fc_link *link);
bool fc_link_tls_has_output(const fc_link *link);
bool fc_link_tls_has_input(const fc_link *link);

/* Why it is over: EKEYREJECTED, with a reason, when that is a matter of trust; else ECONNRESET. */
int fc_link_tls_error(const fc_link *link, fc_reason *out_why);

/* --- link.c, for net.c ----------------------------------------------------------------------------------------------
 */

/* On the net's thread, under net->lock: what to poll for (fd -1: nothing); lowers *until_ns to when it wants to look.
 */
struct pollfd fc_link_poll(fc_link *link, uint64_t *until_ns);

/* On the net's thread, no lock held: connects, reads, writes, gives up, as revents and the time say. */
void fc_link_progress(fc_link *link, short revents, uint64_t now_ns);

/* Under net->lock, any thread: queues the frame of an exchange and writes what the socket takes. */
void fc_link_write(fc_link *link, fc_exchange *exchange, fc_message *message);

/* Under net->lock: takes the exchange's frame out of the queue if nothing of it was written; NULL if something was
 * (what is left of it goes on without its exchange). */
fc_message *fc_link_take_back(fc_link *link, fc_exchange *exchange);

#endif
