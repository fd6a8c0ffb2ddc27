/* flashcore.h: the client library of flashcored, the attention daemon.
 *
 * One flashcore_client holds a connection to each of its URLs and spreads requests over them. Every function may be
 * called from any thread at any time on the same client, flashcore_client_destroy() excepted. Nothing here needs CUDA.
 * Usable from C99 and C++. After fork() a child must not use a client made before it. From within a callback, the
 * functions that wait for an answer (attend, ping, hello, stats) are refused with INVALID_ARGUMENT.
 *
 * What is resent by itself: a request answered `busy` (after the time the server states, while the call's timeout
 * and the request's deadline_us last) and one answered `draining` (to another URL, or to whoever takes its
 * place at the same one meanwhile). Nothing else: whatever may have started is reported, never repeated. A call that
 * ends before a busy server wants to hear of a new one goes to another URL, or ends BUSY at once without being sent:
 * retry_after_us says when to call again.
 */
#ifndef FLASHCORE_H
#define FLASHCORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FLASHCORE_API __attribute__((visibility("default")))
#else
#define FLASHCORE_API
#endif

/* major * 10000 + minor * 100 + patch of the header; flashcore_api_version() tells the library's. */
#define FLASHCORE_API_VERSION 100

FLASHCORE_API uint32_t flashcore_api_version(void);

/* Outcomes. The first group is what a server can answer, the second arises in this library. */
typedef enum flashcore_status {
    FLASHCORE_OK = 0,
    FLASHCORE_INVALID_ARGUMENT = 1,
    FLASHCORE_UNSUPPORTED = 2,
    FLASHCORE_TOO_LARGE = 3,
    FLASHCORE_BUSY = 4,
    FLASHCORE_DEADLINE_EXCEEDED = 5,
    FLASHCORE_CANCELLED = 6,
    FLASHCORE_DRAINING = 7,
    FLASHCORE_INTERNAL = 8,
    FLASHCORE_DEVICE_LOST = 9,
    FLASHCORE_UNAUTHORIZED = 10,
    FLASHCORE_NO_MEMORY = 11,
    FLASHCORE_IO = 12,
    FLASHCORE_TIMED_OUT = 13,
    FLASHCORE_UNREACHABLE = 14,
    FLASHCORE_CONNECTION_LOST = 15,
    FLASHCORE_BAD_REPLY = 16
} flashcore_status;

/* "invalid_argument", ... and one English line. Static strings; "unknown" outside the enum. */
FLASHCORE_API const char *flashcore_status_name(flashcore_status status);
FLASHCORE_API const char *flashcore_status_text(flashcore_status status);

typedef enum flashcore_dtype { FLASHCORE_F16 = 0, FLASHCORE_BF16 = 1, FLASHCORE_F32 = 2 } flashcore_dtype;

/* Order of the four dimensions: [batch, heads, tokens, head_dim] or [batch, tokens, heads, head_dim]. */
typedef enum flashcore_layout { FLASHCORE_BHSD = 0, FLASHCORE_BSHD = 1 } flashcore_layout;

/* TOP_LEFT: query i sits at position i (PyTorch's is_causal). BOTTOM_RIGHT: at i + kv_len - q_len (FlashAttention's).
 */
typedef enum flashcore_causal {
    FLASHCORE_CAUSAL_NONE = 0,
    FLASHCORE_CAUSAL_TOP_LEFT = 1,
    FLASHCORE_CAUSAL_BOTTOM_RIGHT = 2
} flashcore_causal;

typedef struct flashcore_client flashcore_client;
typedef struct flashcore_call flashcore_call;
typedef struct flashcore_arena flashcore_arena;

/* How requests go to a server on this machine (ipc:// URLs; over tcp:// there is but one way). AUTO: over its local
 * channel where it has one, tensors through shared memory: those that lie in a flashcore_arena as they are, others
 * copied into one of the library's (from the second or third call on: it is asked for when first missed). INLINE:
 * everything over the URL's own socket. Results are the same. */
typedef enum flashcore_path { FLASHCORE_PATH_AUTO = 0, FLASHCORE_PATH_INLINE = 1 } flashcore_path;

/* Fill with flashcore_options_init(), then change what you need. The server learns a call's timeout: what it could not
 * answer in time it does not run (DEADLINE_EXCEEDED). */
typedef struct flashcore_options {
    size_t struct_bytes;         /* set by flashcore_options_init() */
    const char *const *urls;     /* ipc:///path/to.sock, tls+tcp://host:port, tcp://host:port; borrowed during create */
    size_t url_count;            /* >= 1 */
    uint32_t inflight_max;       /* calls under way at once; one more waits in submit. Default 256 */
    uint64_t connect_timeout_us; /* how long a call waits for a connection. Default 5 s */
    uint64_t timeout_us;         /* of a call, from submit to result; 0: none. Default 60 s */
    size_t reply_bytes_max;      /* a larger reply breaks the connection. Default 1 GiB */
    flashcore_path path;         /* default AUTO */
    /* Of tls+tcp:// URLs; PEM, regular files, read by create. Default NULL each. */
    const char *tls_ca;          /* who issues the servers' certificates; NULL: those the system trusts */
    const char *tls_cert;        /* the client's certificate, issuers' behind it, for servers that want one, */
    const char *tls_key;         /* and its key: no passphrase, mode 0600 or 0640 */
    const char *tls_server_name; /* whose certificate a server must show; NULL: the URL's host's */
    /* How long a thread that waits for the client's only call under way stays awake before it sleeps. Keeps a core busy
     * and spares the answer the time that waking takes. Default 0 us. */
    uint64_t spin_us;
} flashcore_options;

FLASHCORE_API void flashcore_options_init(flashcore_options *options);

/* Makes a client and starts connecting in the background; does not wait for a server to answer, but resolves host
 * names, once and for all. INVALID_ARGUMENT: no URL, one that cannot be parsed, no such host, or a TLS file that will
 * not do; NO_MEMORY; IO. On success *out_client belongs to the caller until destroy. */
FLASHCORE_API flashcore_status flashcore_client_create(const flashcore_options *options, flashcore_client **out_client);

/* Ends calls still under way with CANCELLED (their callbacks run first), then frees the client. Every flashcore_call
 * not yet released must still be released, before or after. NULL is fine. Not from a callback. */
FLASHCORE_API void flashcore_client_destroy(flashcore_client *client);

/* Why the last create, submit, attend, ping, hello or stats of this thread failed; "" when it did not. Valid until this
 * thread's next such call. */
FLASHCORE_API const char *flashcore_last_error(void);

/* A tensor in the caller's memory: contiguous, little-endian, any alignment. */
typedef struct flashcore_tensor {
    flashcore_dtype dtype;
    uint64_t shape[4]; /* in the request's layout */
    const void *data;  /* shape product times element size bytes; NULL only when that is 0 */
} flashcore_tensor;

/* One attention request. Fill with flashcore_request_init(), then set q, k, v and what you need. */
typedef struct flashcore_request {
    size_t struct_bytes; /* set by flashcore_request_init() */
    flashcore_tensor q, k, v;
    flashcore_layout layout;           /* default BHSD */
    flashcore_causal causal;           /* default NONE */
    int64_t window_left, window_right; /* keys seen before and after the query's position; default -1: all */
    float scale;                       /* NaN (the default): 1/sqrt(head_dim) */
    float softcap;                     /* default 0: off */
    const uint32_t *kv_len;            /* [batch] keys in use per batch entry; NULL (default): all */
    const char *kernel;                /* NULL (default): the server chooses */
    uint64_t deadline_us;              /* the server gives up this long after reception; default 0: never */
    void *out;                         /* q's shape, dtype and layout; the caller's memory, required */
    float *lse; /* [batch, q_heads, q_tokens], ln sum exp of the scores; NULL (default): not wanted */
} flashcore_request;

FLASHCORE_API void flashcore_request_init(flashcore_request *request);

/* What came back beside out and lse. Plain value. Times in microseconds; the server's parts lie in server_total_us,
 * which lies in client_total_us. */
typedef struct flashcore_result {
    flashcore_status status;
    char error[256];         /* why, in one line; "" with OK */
    uint64_t retry_after_us; /* with BUSY */
    char kernel[32];         /* the rung that ran, never "auto" */
    char device[96];
    double queue_us, copy_in_us, kernel_us, copy_out_us, server_total_us;
    double client_total_us; /* submit to result */
    uint32_t batch;         /* requests in the same launch */
    uint32_t url_index;     /* which URL answered */
} flashcore_result;

/* Runs a request and waits. out (and lse) are written on OK only. Returns out_result->status; out_result may be NULL.
 * The request's memory is the caller's again when this returns, whatever it returns. */
FLASHCORE_API flashcore_status flashcore_attend(flashcore_client *client, const flashcore_request *request,
                                                flashcore_result *out_result);

/* Called once per call, on the client's one thread, when the result is there: must not block (every other call of the
 * client would wait behind it) and must not destroy the client. It may submit and may release the call. */
typedef void (*flashcore_callback)(void *context, flashcore_call *call, const flashcore_result *result);

/* Starts a request and returns. The struct itself is copied; what it points to (inputs, kv_len, kernel, out, lse) must
 * stay valid, and the inputs unchanged, until the call has ended: a request answered `busy` or `draining` is sent again
 * from there. callback may be NULL. Blocks while inflight_max calls are under way, at most connect_timeout_us (then
 * BUSY). On OK *out_call belongs to the caller until flashcore_call_release(); it is written before the callback can
 * run. On failure nothing was sent, the callback never runs, and flashcore_last_error() says why. From a callback it
 * never blocks: BUSY at once when inflight_max is reached. */
FLASHCORE_API flashcore_status flashcore_submit(flashcore_client *client, const flashcore_request *request,
                                                flashcore_callback callback, void *context, flashcore_call **out_call);

/* Waits up to timeout_us (UINT64_MAX: for ever; 0: just looks) for the call to end and for its callback to return; in
 * the call's own callback it returns at once. TIMED_OUT and *out_result untouched: not yet, wait again. Else the call's
 * status, with *out_result filled (may be NULL). A call may itself have ended with TIMED_OUT: flashcore_has_ended()
 * tells the two apart. NULL, as a failed submit leaves it, is INVALID_ARGUMENT. */
FLASHCORE_API flashcore_status flashcore_wait(flashcore_call *call, uint64_t timeout_us, flashcore_result *out_result);

/* 1 once the call has ended and its callback (if any) has returned: wait no longer waits; and for NULL. Else 0. */
FLASHCORE_API int flashcore_has_ended(flashcore_call *call);

/* Asks the server to take a queued request back; returns without waiting. The call ends with CANCELLED if it had not
 * started, with its ordinary result otherwise. NULL is INVALID_ARGUMENT. */
FLASHCORE_API flashcore_status flashcore_cancel(flashcore_call *call);

/* Gives the call back. One still under way goes on unobserved, so what its request points to must stay valid: wait
 * first, or destroy the client. NULL is fine. */
FLASHCORE_API void flashcore_call_release(flashcore_call *call);

/* Round trip of an empty request to one URL (0 <= url_index < url_count). */
FLASHCORE_API flashcore_status flashcore_ping(flashcore_client *client, uint32_t url_index, double *out_us);

/* --- Arenas: memory shared with the server ---------------------------------------------------------------------------
 *
 * A request all of whose tensors (q, k, v, out, and lse where wanted; any that hold bytes) lie in arenas of one
 * connection is not copied by anybody on the way: the server computes on that memory. Nothing else changes: the same
 * calls, and should the connection break, the same memory is sent in messages. Make arenas once and keep them; they
 * count against the server's quotas (flashcore_info). Do not change inputs, or use outputs, before the call has ended;
 * after one that ended with TIMED_OUT, CONNECTION_LOST, DEVICE_LOST or, by flashcore_client_destroy(), CANCELLED, the
 * server may still write to the outputs, as long as it lives. */

/* Makes an arena of at least size_bytes at one URL; waits for the connection and the answer. UNSUPPORTED: that server
 * is not on this machine, has no local channel or no arenas, or the client's path is INLINE; TOO_LARGE: past a quota;
 * UNREACHABLE, NO_MEMORY, .... On OK *out_arena belongs to the caller until destroy, which must come before the
 * client's (what is left then goes with the client). */
FLASHCORE_API flashcore_status flashcore_arena_create(flashcore_client *client, uint32_t url_index, size_t size_bytes,
                                                      flashcore_arena **out_arena);

/* Gives it back and unmaps it, after every call that uses it has ended. NULL is fine. */
FLASHCORE_API void flashcore_arena_destroy(flashcore_arena *arena);

/* size_bytes of it, aligned to 64, behind what was allocated before (so that tensors allocated together are
 * contiguous). NULL: there is not so much left. It stays the caller's until reset or destroy. */
FLASHCORE_API void *flashcore_arena_alloc(flashcore_arena *arena, size_t size_bytes);

/* Forgets what was allocated. Nothing that lies there may be in use. */
FLASHCORE_API void flashcore_arena_reset(flashcore_arena *arena);

/* What alloc can give in all. */
FLASHCORE_API size_t flashcore_arena_size(const flashcore_arena *arena);

/* --- Device arenas: GPU memory shared with the server
 * -----------------------------------------------------------------
 *
 * For callers whose tensors are on the GPU anyway: nothing crosses the bus. A request with a tensor in a device arena
 * needs all five in arenas of that connection, of either kind (INVALID_ARGUMENT otherwise); should that connection
 * break, such requests end with UNREACHABLE, since nobody can send that memory in messages, and another arena has to be
 * made. Inputs must be complete before the call (cudaStreamSynchronize, or submit from a cudaLaunchHostFunc); outputs
 * may be used, on any stream, when it has ended.
 *
 * This library knows no CUDA: a mapper does. libflashcore-client-cuda (flashcore_cuda.h) is one. */
#define FLASHCORE_UUID_BYTES 16
#define FLASHCORE_ERROR_BYTES 256

typedef struct flashcore_device_mapper {
    /* Gives the memory behind fd, which is borrowed, an address on the device of that UUID (cuDeviceGetUuid). Anything
     * but OK: error says why. */
    flashcore_status (*map)(void *context, int fd, size_t size_bytes, const uint8_t uuid[FLASHCORE_UUID_BYTES],
                            void **out_address, char error[FLASHCORE_ERROR_BYTES]);
    void (*unmap)(void *context, void *address, size_t size_bytes);
    void *context; /* live until the arenas made with it are destroyed */
} flashcore_device_mapper;

/* flashcore_arena_create() on the server's GPU; alloc, reset, size and destroy are the same functions, and what alloc
 * gives is a device address. UNSUPPORTED, too: the server has no device arenas, and flashcore_last_error() says why; or
 * what the mapper says. The mapper is called from this function, flashcore_arena_destroy() and
 * flashcore_client_destroy(). */
FLASHCORE_API flashcore_status flashcore_device_arena_create(flashcore_client *client, uint32_t url_index,
                                                             size_t size_bytes, const flashcore_device_mapper *mapper,
                                                             flashcore_arena **out_arena);

/* What a server says of itself. */
typedef struct flashcore_info {
    char server[64], version[32], default_kernel[32], device[96];
    uint32_t kernel_count, feature_count;
    char kernels[32][32];
    char features[32][32];
    uint64_t message_bytes_max, tensor_bytes_max, tokens_max, head_dim_max, batch_entries_max;
    uint64_t queue_requests_max, queue_bytes_max, inflight_per_peer_max;
    uint64_t arena_bytes_max, arena_bytes_per_peer_max;               /* 0: no arenas */
    uint64_t device_arena_bytes_max, device_arena_bytes_per_peer_max; /* 0: no device arenas */
} flashcore_info;

FLASHCORE_API flashcore_status flashcore_hello(flashcore_client *client, uint32_t url_index, flashcore_info *out_info);

/* Counters since the server's start: calls visit once each, in the server's order; name lives during the call. */
typedef void (*flashcore_counter_visit)(void *context, const char *name, double value);
FLASHCORE_API flashcore_status flashcore_stats(flashcore_client *client, uint32_t url_index,
                                               flashcore_counter_visit visit, void *context);

#ifdef __cplusplus
}
#endif

#endif
