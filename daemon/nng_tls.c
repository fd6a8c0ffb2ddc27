/* See nng_tls.h. nng serialises what it asks of one connection; connections of several threads meet in `current` and
 * `refusals` alone.
 */
#include "daemon/nng_tls.h"

#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/log_gate.h"
#include "daemon/nng_arrivals.h"
#include "daemon/nng_descriptor.h"
#include "daemon/nng_gap.h"
#include "daemon/nng_listener_fix.h"

#include <nng/nng.h>
#include <nng/supplemental/tls/engine.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Connections whose handshake goes on: so many, for so long. Strangers make them, too; so where one comes past that
 * many, the one that has been at it for longest is cut, which takes a moment. */
#define HANDSHAKES_MAX 256
#define HANDSHAKE_NS (10 * FC_NS_PER_S)

/* How far one piece of nng's memory has been read into, or written from. */
typedef struct progress {
    const uint8_t *bytes; /* NULL: none */
    size_t done_bytes;
} progress;

struct nng_tls_engine_conn {
    fc_tls_session *session; /* NULL: was never opened */
    void *wire;              /* nng's stream under it */
    int fd;                  /* and its descriptor, until this is freed; -1: not known */
    bool is_greeted;         /* the first eight bytes are sent, which are no message's */
    uint64_t left_bytes;     /* of the message that is being sent */
    bool is_refusal_noted;
    progress reading, writing;

    /* current.lock, while in current.shaking. */
    bool is_shaking, is_cut;
    uint64_t begun_ns;
    nng_tls_engine_conn *previous, *next;
};

static struct {
    pthread_mutex_t lock;
    fc_tls *tls;
    fc_stats *stats;
    nng_tls_engine_conn *shaking, *oldest_shaking;
    uint32_t shaking_count;
} current = {.lock = PTHREAD_MUTEX_INITIALIZER};

static fc_log_gate refusals = FC_LOG_GATE_INITIALIZER(1); /* the counter has all */

struct nng_tls_engine_config {
    char unused; /* what there is to configure is in `current` */
};

/* --- connections -------------------------------------------------------------------------------------------------- */

/* nng 1.5 tells those who wait that the connection broke, and forgets it: who begins to wait afterwards waits for ever.
 * Then the socket is shut both ways, by nng if by nobody else. */
static bool has_peer(const nng_tls_engine_conn *conn)
{
#if NNG_MAJOR_VERSION == 1 && NNG_MINOR_VERSION < 8
    struct pollfd socket = {.fd = conn->fd};
    return poll(&socket, 1, 0) <= 0 || (socket.revents & POLLHUP) == 0;
#else
    (void)conn;
    return true;
#endif
}

static ssize_t wire_read(void *context, void *bytes, size_t size_bytes)
{
    const nng_tls_engine_conn *conn = context;
    int error = nng_tls_engine_recv(conn->wire, bytes, &size_bytes);
    if (error == NNG_EAGAIN)
        return has_peer(conn) || !fc_nng_gap_may_end(conn->fd) ? 0 : -1;
    return error == 0 ? (ssize_t)size_bytes : -1;
}

static ssize_t wire_write(void *context, const void *bytes, size_t size_bytes)
{
    const nng_tls_engine_conn *conn = context;
    int error = nng_tls_engine_send(conn->wire, bytes, &size_bytes);
    return error == 0 ? (ssize_t)size_bytes : error == NNG_EAGAIN ? 0 : -1;
}

/* Under the lock. */
static void begin_shaking(nng_tls_engine_conn *conn)
{
    conn->is_shaking = true;
    conn->begun_ns = fc_clock_now_ns();
    conn->previous = NULL;
    conn->next = current.shaking;
    *(conn->next != NULL ? &conn->next->previous : &current.oldest_shaking) = conn;
    current.shaking = conn;
    current.shaking_count++;
}

static void end_shaking(nng_tls_engine_conn *conn)
{
    if (!conn->is_shaking)
        return;
    pthread_mutex_lock(&current.lock);
    conn->is_shaking = false;
    *(conn->previous != NULL ? &conn->previous->next : &current.shaking) = conn->next;
    *(conn->next != NULL ? &conn->next->previous : &current.oldest_shaking) = conn->previous;
    current.shaking_count--;
    pthread_mutex_unlock(&current.lock);
}

/* Under the lock, of one in current.shaking. Once. */
static void cut(nng_tls_engine_conn *conn)
{
    if (conn->is_cut)
        return;
    conn->is_cut = true;
    shutdown(conn->fd, SHUT_RDWR);
    if (current.stats != NULL)
        fc_stats_add(current.stats, FC_COUNT_TLS_REFUSED, 1);
}

/* Under the lock. False: as many as may be have been cut, and are still there. */
static bool make_room(void)
{
    nng_tls_engine_conn *oldest = current.oldest_shaking;
    while (oldest != NULL && oldest->is_cut)
        oldest = oldest->previous;
    if (current.shaking_count >= HANDSHAKES_MAX && oldest != NULL)
        cut(oldest);
    return current.shaking_count < 2 * HANDSHAKES_MAX;
}

static int descriptor_of(void *wire)
{
    nng_sockaddr peer;
    int fd = -1;
    fc_nng_descriptor_await(&fd);
    (void)nng_stream_get_addr(wire, NNG_OPT_REMADDR, &peer);
    fc_nng_descriptor_await(NULL);
    return fd;
}

static int open_connection(nng_tls_engine_conn *conn, void *wire, nng_tls_engine_config *config)
{
    fc_tls_wire functions = {.read = wire_read, .write = wire_write, .context = conn};
    fc_status st = FC_UNAUTHORIZED;
    (void)config;
    conn->wire = wire;
    conn->fd = descriptor_of(wire);
    fc_nng_gap_take(conn->fd);
    pthread_mutex_lock(&current.lock);
    if (current.tls != NULL && make_room())
        st = fc_tls_session_open(current.tls, NULL, &functions, &conn->session);
    if (st == FC_OK)
        begin_shaking(conn);
    pthread_mutex_unlock(&current.lock);
    return st == FC_OK ? 0 : st == FC_NO_MEMORY ? NNG_ENOMEM : NNG_EPEERAUTH;
}

/* Also one that was never opened. */
static void free_connection(nng_tls_engine_conn *conn)
{
    end_shaking(conn);
    fc_tls_session_close(conn->session);
    conn->session = NULL;
}

static void close_connection(nng_tls_engine_conn *conn)
{
    if (conn->session != NULL)
        fc_tls_say_goodbye(conn->session);
}

static void note_refusal(nng_tls_engine_conn *conn)
{
    bool is_refusal;
    uint64_t left_out;
    const char *why = fc_tls_why(conn->session, &is_refusal);
    if (conn->is_refusal_noted || fc_tls_is_established(conn->session))
        return;
    conn->is_refusal_noted = true;
    pthread_mutex_lock(&current.lock);
    if (current.stats != NULL)
        fc_stats_add(current.stats, FC_COUNT_TLS_REFUSED, 1);
    pthread_mutex_unlock(&current.lock);
    if (fc_log_gate_pass(&refusals, fc_clock_now_ns(), &left_out))
        fc_log(FC_LOG_INFO, "tls_refused", fc_log_text("why", why));
}

/* nng's code for what a step of the session came to. Never NNG_ECLOSED: of a connection that does not get to stand, nng
 * would take it for the listener's end. */
static int code_of(nng_tls_engine_conn *conn, ssize_t result)
{
    if (conn->is_shaking && fc_tls_is_established(conn->session))
        end_shaking(conn);
    if (result > 0)
        return 0;
    if (result == 0)
        return NNG_EAGAIN;
    note_refusal(conn);
    return fc_tls_is_established(conn->session) ? NNG_ECONNRESET : NNG_EPEERAUTH;
}

static int shake_hands(nng_tls_engine_conn *conn)
{
    return code_of(conn, fc_tls_handshake(conn->session));
}

/* Moves all of it, over as many calls as it takes: nng comes back with the same bytes as long as it is told to wait. A
 * part would do; but a message's parts are where nng 1.5 can hang (nng_gap.h), so there are as few as can be. */
static int move_all(nng_tls_engine_conn *conn, progress *at, const uint8_t *bytes, size_t size_bytes, bool is_reading)
{
    ssize_t moved = 1;
    if (at->bytes != bytes)
        *at = (progress){.bytes = bytes};
    while (at->done_bytes < size_bytes && moved > 0) {
        uint8_t *next = (uint8_t *)(uintptr_t)bytes + at->done_bytes;
        size_t left = size_bytes - at->done_bytes;
        moved = is_reading ? fc_tls_read(conn->session, next, left) : fc_tls_write(conn->session, next, left);
        at->done_bytes += moved > 0 ? (size_t)moved : 0;
    }
    if (moved > 0)
        at->bytes = NULL;
    return code_of(conn, moved);
}

/* nng asks for a message's length, and then for all of it, until all has come. */
static int receive(nng_tls_engine_conn *conn, uint8_t *bytes, size_t *size_bytes)
{
    size_t had_bytes = conn->reading.bytes == bytes ? conn->reading.done_bytes : 0;
    int code = move_all(conn, &conn->reading, bytes, *size_bytes, true);
    fc_nng_arrivals_note(conn->fd, *size_bytes - had_bytes, conn->reading.done_bytes - had_bytes);
    return code;
}

/* Follows the messages in what is sent: their length, 8 bytes, comes as a part of its own. True: the part that these
 * bytes are was a message's last. */
static bool ends_message(nng_tls_engine_conn *conn, const uint8_t *bytes, size_t size_bytes)
{
    if (!conn->is_greeted) {
        conn->is_greeted = true;
        return true;
    }
    if (conn->left_bytes == 0) {
        for (size_t i = 0; i < size_bytes && i < sizeof conn->left_bytes; i++)
            conn->left_bytes = conn->left_bytes << 8 | bytes[i];
    } else {
        conn->left_bytes -= size_bytes < conn->left_bytes ? size_bytes : conn->left_bytes;
    }
    return conn->left_bytes == 0;
}

/* What is for a peer that is gone waits, until the end of the peer's own bytes closes the connection: nng sends a
 * message in three parts, and must not be found between two then (nng_gap.h). */
static int send_bytes(nng_tls_engine_conn *conn, const uint8_t *bytes, size_t *size_bytes)
{
    fc_nng_gap_close(conn->fd);
    if (!conn->is_greeted && fc_nng_listener_fix_keeps_greetings())
        return NNG_ECONNRESET;
    if (conn->is_greeted && !has_peer(conn)) {
        shutdown(conn->fd, SHUT_RD); /* the end comes also where the peer only seems to be gone */
        return NNG_EAGAIN;
    }
    int code = move_all(conn, &conn->writing, bytes, *size_bytes, false);
    if (code == 0 && !ends_message(conn, bytes, *size_bytes) && !fc_nng_gap_open(conn->fd))
        return NNG_EAGAIN;
    return code;
}

static bool is_verified(nng_tls_engine_conn *conn)
{
    return conn->session != NULL && fc_tls_is_established(conn->session);
}

/* --- configuration: none, see `current` --------------------------------------------------------------------------- */

static int config_init(nng_tls_engine_config *config, nng_tls_mode mode)
{
    (void)config;
    return mode == NNG_TLS_MODE_SERVER ? 0 : NNG_ENOTSUP;
}

static void config_fini(nng_tls_engine_config *config)
{
    (void)config;
}

static int config_server(nng_tls_engine_config *config, const char *name)
{
    (void)config, (void)name;
    return NNG_ENOTSUP;
}

/* nng sets a mode of its own on every listener. */
static int config_auth(nng_tls_engine_config *config, nng_tls_auth_mode mode)
{
    (void)config, (void)mode;
    return 0;
}

static int config_ca_chain(nng_tls_engine_config *config, const char *certs, const char *crl)
{
    (void)config, (void)certs, (void)crl;
    return NNG_ENOTSUP;
}

static int config_own_cert(nng_tls_engine_config *config, const char *cert, const char *key, const char *passphrase)
{
    (void)config, (void)cert, (void)key, (void)passphrase;
    return NNG_ENOTSUP;
}

static int config_version(nng_tls_engine_config *config, nng_tls_version least, nng_tls_version most)
{
    (void)config, (void)least, (void)most;
    return NNG_ENOTSUP;
}

static nng_tls_engine_config_ops CONFIG_OPS = {.size = sizeof(nng_tls_engine_config),
                                               .init = config_init,
                                               .fini = config_fini,
                                               .server = config_server,
                                               .auth = config_auth,
                                               .ca_chain = config_ca_chain,
                                               .own_cert = config_own_cert,
                                               .version = config_version};

static nng_tls_engine_conn_ops CONN_OPS = {.size = sizeof(nng_tls_engine_conn),
                                           .init = open_connection,
                                           .fini = free_connection,
                                           .close = close_connection,
                                           .handshake = shake_hands,
                                           .recv = receive,
                                           .send = send_bytes,
                                           .verified = is_verified};

static const nng_tls_engine ENGINE = {.version = NNG_TLS_ENGINE_VERSION,
                                      .config_ops = &CONFIG_OPS,
                                      .conn_ops = &CONN_OPS,
                                      .name = "flashcored",
                                      .description = "OpenSSL, certificates replaceable"};

/* --- handshakes that do not end ----------------------------------------------------------------------------------- */

void fc_nng_tls_tick(uint64_t now_ns)
{
    pthread_mutex_lock(&current.lock);
    for (nng_tls_engine_conn *conn = current.shaking; conn != NULL; conn = conn->next) {
        if (fc_clock_elapsed_ns(conn->begun_ns, now_ns) >= HANDSHAKE_NS)
            cut(conn);
    }
    pthread_mutex_unlock(&current.lock);
}

/* --- the certificates in effect ----------------------------------------------------------------------------------- */

static void set(fc_tls *tls, fc_stats *stats)
{
    pthread_mutex_lock(&current.lock);
    fc_tls *old = current.tls;
    current.tls = tls;
    current.stats = stats;
    pthread_mutex_unlock(&current.lock);
    fc_tls_destroy(old);
}

void fc_nng_tls_start(fc_tls *tls, fc_stats *stats)
{
    set(tls, stats);
    nng_tls_engine_register(&ENGINE);
}

void fc_nng_tls_replace(fc_tls *tls)
{
    set(tls, current.stats);
}

void fc_nng_tls_stop(void)
{
    set(NULL, NULL);
}
