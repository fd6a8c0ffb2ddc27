/* The service: bytes of a message in, bytes of a reply out, whatever carried them.
 *
 * Life of a request: the transport hands its bytes to fc_service_receive(). hello, ping, stats, cancel and every
 * rejection are answered at once, on the caller's thread; an attend that passes admission waits in the bounded queue
 * until a lane takes it, alone or with others that can share its launch. The answer is written into memory the reply
 * sink provides and handed back through it, on whichever thread the answer arose. Exactly one answer a request.
 *
 * A device that is lost (FC_DEVICE_LOST) ends the service: what its launches held is answered device_lost, what waited
 * and what still comes draining, since it never started. Building a new CUDA context in this process is not tried. A
 * sticky error poisons every allocation, registration and exported mapping of the context, arenas that clients have
 * mapped among them, and cudaDeviceReset() beside threads that may be inside the driver is undefined: the end of the
 * process is the one reset that is sure.
 *
 * Threads: create, start, reconfigure, stop and destroy belong to the loop thread; receive, sent, peer_gone, tick,
 * drain and the getters may be called from any thread. No call blocks but create, stop and destroy.
 */
#ifndef FC_DAEMON_SERVICE_H
#define FC_DAEMON_SERVICE_H

#include "daemon/access.h"
#include "daemon/clock.h"
#include "daemon/cpu_list.h"
#include "daemon/stats.h"
#include "kernels/engine.h"
#include "proto/message.h"

typedef struct fc_service fc_service;
typedef struct fc_request fc_request; /* daemon/request.h */

/* What the control plane has to act upon. */
typedef enum fc_service_event {
    FC_EVENT_DEVICE_LOST,  /* the engine is dead, the service drains already: exit non-zero, be restarted */
    FC_EVENT_LAUNCH_HUNG,  /* likewise, of a launch or an arena's making that hangs: its thread never ends */
    FC_EVENT_PIPES_LEAKED, /* too many connections never finished closing: drain, exit, be restarted */
    FC_EVENT_IDLE          /* draining and nothing is left: worth asking is_idle again */
} fc_service_event;

/* Called from any thread, possibly under load: must only wake the loop (uv_async_send). The first two come once. */
typedef void (*fc_service_on_event)(void *context, fc_service_event event);

/* What can be changed while running. */
typedef struct fc_service_tunables {
    fc_kernel default_kernel;      /* FC_KERNEL_AUTO: the engine's choice per problem */
    uint64_t queue_requests;       /* requests waiting at once, >= 1 */
    uint64_t queue_bytes;          /* message bytes they may hold together; one request always fits an empty queue */
    uint64_t queue_bytes_per_peer; /* and those of one connection, whose first may be longer; 0: any number */
    uint64_t inflight_per_peer;    /* requests of one connection between reception and reply, >= 1 */
    uint64_t connections_per_uid;  /* of one user, or of one host over tcp; 0: any number */
    uint64_t requests_per_second;  /* of one connection; 0: any number */
    uint32_t batch_requests;       /* requests of one launch, >= 1, at most FC_BATCH_REQUESTS_MAX */
    uint64_t slow_request_ns;      /* what takes so long is logged; 0: nothing is */
} fc_service_tunables;

#define FC_BATCH_REQUESTS_MAX 256

typedef struct fc_service_config {
    const fc_engine_ops *ops;
    fc_engine *engine;              /* opened; borrowed until destroy */
    fc_engine_config engine_config; /* as it was opened with: lane_staging_bytes and lane_segments are limits here */
    uint32_t lane_count;            /* 0: the engine's choice */
    fc_cpu_list lane_cpus;          /* where lanes, and the thread that makes arenas, run */
    uint64_t message_bytes;         /* limits stated in hello: of a message, */
    uint64_t tensor_bytes;          /* of one tensor's data, */
    uint64_t tokens;                /* of q's and k's sequence (at most FC_TOKENS_MAX), */
    uint64_t head_dim;              /* of head_dim (at most FC_HEAD_DIM_MAX) */
    uint64_t arena_bytes;           /* of all arenas; 0: there are none */
    uint64_t arena_bytes_per_peer;  /* of one connection's arenas */
    uint64_t device_arena_bytes;    /* of all device arenas; 0, or an engine without device memory: there are none */
    uint64_t device_arena_bytes_per_peer;
    fc_access access; /* who may connect over UNIX sockets */
    fc_service_tunables tunables;
    fc_service_on_event on_event; /* may be NULL */
    void *event_context;
} fc_service_config;

/* Checks the config, starts the lanes and waits until each has opened its engine lane. FC_INVALID_ARGUMENT: a limit
 * out of range, or default_kernel is none of the engine's (the reason lists what there is); FC_NO_MEMORY, FC_INTERNAL:
 * a thread or lane could not start. */
fc_status fc_service_create(const fc_service_config *config, fc_service **out_service, fc_reason *out_reason);

/* Stops first if that was not done. NULL is fine. Every request handed in must have come back. */
void fc_service_destroy(fc_service *service);

/* Replaces the tunables; requests already queued stay. On failure nothing has changed. */
fc_status fc_service_reconfigure(fc_service *service, const fc_service_tunables *tunables, fc_reason *out_reason);

/* From now on attends are answered `draining`; so is, at once, everything queued. What runs goes on. Idempotent. */
void fc_service_drain(fc_service *service);

/* While draining: has each connection that came or asked in the last second been answered `draining`? */
bool fc_service_has_told_all(const fc_service *service);

/* Draining, and no request is queued, running or being replied to. */
bool fc_service_is_idle(const fc_service *service);

/* Ends the lanes: waits for the launches under way, answers what is still queued with `draining`. Never returns where a
 * launch hangs. */
void fc_service_stop(fc_service *service);

/* Answers requests whose deadline passed while they waited. Call every 10 ms or so: an expired request is answered at
 * the latest when its turn comes, and this is what makes it earlier while all lanes are busy. */
void fc_service_tick(fc_service *service, uint64_t now_ns);

/* Gives up launches that take longer than they may (lanes.h), and the keeper of arenas (arena_store.h), and drains, so
 * that nothing more starts: FC_EVENT_LAUNCH_HUNG. Who waits for an arena then learns it from the connection's end. Call
 * it every 10 ms or so. timeout_ns 0: a launch may take for ever. Loop thread, as the next two. */
void fc_service_watch(fc_service *service, uint64_t timeout_ns, uint64_t now_ns);

/* Gives up all launches under way: the device failed, and there is no more time to wait for them. */
void fc_service_give_up(fc_service *service, uint64_t now_ns);

/* Was any launch, or the keeper, given up? Then neither stop nor destroy: answer what can be, and end the process. */
bool fc_service_has_given_up(const fc_service *service);

/* How the lanes are getting on. Loop thread, before stop. */
typedef struct fc_service_pulse {
    bool is_draining;
    bool is_device_lost;        /* or a launch hangs */
    uint64_t ran_ns;            /* when a launch last ended well; 0: none has */
    uint64_t longest_launch_ns; /* how long the launch under way longest has been; 0: none is */
} fc_service_pulse;

void fc_service_pulse_look(const fc_service *service, uint64_t now_ns, fc_service_pulse *out_pulse);

/* The counters; the transport adds its own to them. Live until destroy. */
fc_stats *fc_service_stats(fc_service *service);

/* Tells the control plane. Any thread. */
void fc_service_raise(fc_service *service, fc_service_event event);

/* --- for transports ----------------------------------------------------------------------------------------------- */

/* Where a request's answer goes. The service calls buffer() and then send(), or drop(), once a request, from any
 * thread; the functions must not block and may call back into the service. */
typedef struct fc_reply_sink {
    /* Memory for a reply of at most capacity_bytes, the request's until send or drop. A second call replaces the
     * first's memory. NULL: none to be had. */
    void *(*buffer)(fc_request *request, size_t capacity_bytes);
    /* The reply stands in the first size_bytes of the buffer: carry it away, then call fc_service_sent(). */
    void (*send)(fc_request *request, size_t size_bytes);
    /* No reply will come, because the peer is gone or there is no memory for one; is_peer_gone tells which, and in the
     * second case the peer must not be left waiting: cut its connection. The request is DONE and the transport's. */
    void (*drop)(fc_request *request, bool is_peer_gone);
    /* A launch that hangs may go on reading the message and writing the reply: neither is ever freed or used again, and
     * buffer() gives memory of another place. NULL: tensors are in neither. */
    void (*abandon)(fc_request *request);
    /* The local channel's socket beside the listener the request came in by, for hello; NULL: there is none. The
     * function may be NULL itself. Live until the transport closes. */
    const char *(*side_socket)(fc_request *request);
    /* The local channel: its packets carry no tensor data, and a reply may have descriptors
     * (fc_request.reply_fds), which stay the request's. */
    bool is_local;
} fc_reply_sink;

/* dispatch.h: idle lanes wait where the transport's messages arrive; NULL ends that. Not after the service is gone. */
struct fc_lookout;
void fc_service_set_lookout(fc_service *service, struct fc_lookout *lookout);

/* A connection has come; before its first message. FC_UNAUTHORIZED: it may not be here; FC_BUSY: its user has too many;
 * FC_NO_MEMORY: all of these are logged, and it is to be closed. After FC_OK fc_service_peer_gone() ends it. */
fc_status fc_service_peer_open(fc_service *service, uint64_t peer, const fc_peer_identity *who);

/* Takes a message. request: fc_request_init()ed memory of the transport, not in use; it and bytes must stay until
 * send() or drop() was called (request until fc_service_sent()). peer names the connection, never 0. */
void fc_service_receive(fc_service *service, fc_request *request, const void *bytes, size_t size_bytes, uint64_t peer);

/* Answers a message with a refusal, whatever it says: what came of it, bytes, may still tell the id to answer to. Else
 * as fc_service_receive(). */
void fc_service_refuse(fc_service *service, fc_request *request, const void *bytes, size_t size_bytes, uint64_t peer,
                       fc_status status, const char *why);

/* The reply has left (or never will: has_left false). The request is DONE and the transport's again. */
void fc_service_sent(fc_service *service, fc_request *request, bool has_left);

/* The connection is gone: its queued requests are dropped, its running ones end unanswered. */
void fc_service_peer_gone(fc_service *service, uint64_t peer);

/* Requests that can be between reception and reply at once, queue full and all lanes at work, and some room to refuse
 * more: what a transport needs to be able to say `busy` at once. */
uint32_t fc_service_request_slots(fc_service *service);

#endif
