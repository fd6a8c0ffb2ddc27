/* See session.h. */
#include "tests/fuzz/session.h"

#include "daemon/clock.h"
#include "proto/codec.h"
#include "tests/fuzz/require.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 20, ARENA_FILL = 0xa5 };

static const uint64_t ARENA_FILL_WORD = 0xa5a5a5a5a5a5a5a5;

/* --- the transport's side ----------------------------------------------------------------------------------------- */

static session_slot *slot_of(fc_request *request)
{
    return (session_slot *)request;
}

static void *sink_buffer(fc_request *request, size_t capacity_bytes)
{
    session_slot *slot = slot_of(request);
    if (slot->lacks_memory)
        return NULL;
    free(slot->reply);
    slot->reply = malloc(capacity_bytes + 1);
    slot->capacity_bytes = capacity_bytes;
    return slot->reply;
}

static void forget_message(session_slot *slot)
{
    free(slot->message);
    slot->message = NULL;
}

static void tell(session_slot *slot, size_t size_bytes)
{
    session *s = slot->session;
    pthread_mutex_lock(&s->lock);
    slot->size_bytes = size_bytes;
    slot->answer_count++;
    pthread_cond_broadcast(&s->answered);
    pthread_mutex_unlock(&s->lock);
}

static void sink_send(fc_request *request, size_t size_bytes)
{
    session_slot *slot = slot_of(request);
    REQUIRE(slot->reply != NULL && size_bytes <= slot->capacity_bytes);
    forget_message(slot);
    slot->fd = request->reply_fds[0] >= 0 ? dup(request->reply_fds[0]) : -1;
    if (!slot->leaves_later)
        fc_service_sent(slot->session->service, request, true);
    tell(slot, size_bytes);
}

static void sink_drop(fc_request *request, bool is_peer_gone)
{
    session_slot *slot = slot_of(request);
    forget_message(slot);
    slot->is_dropped = true;
    slot->is_peer_gone = is_peer_gone;
    tell(slot, 0);
}

static const fc_reply_sink REMOTE_SINK = {.buffer = sink_buffer, .send = sink_send, .drop = sink_drop};
static const fc_reply_sink LOCAL_SINK = {.buffer = sink_buffer, .send = sink_send, .drop = sink_drop, .is_local = true};

/* --- answers ------------------------------------------------------------------------------------------------------ */

static bool is_printable(fc_wire_text text)
{
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.text[i] < ' ' || text.text[i] > '~')
            return false;
    }
    return true;
}

static bool may_attend_be_told(const session_slot *slot, fc_status status)
{
    const session_peer *peer = &slot->session->peers[slot->peer];
    switch (status) {
    case FC_CANCELLED:
        return peer->id != slot->peer_id || peer->has_cancelled[slot->id];
    case FC_DRAINING:
        return slot->session->is_draining;
    case FC_DEADLINE_EXCEEDED:
        return slot->has_deadline;
    default:
        return status != FC_INTERNAL && status != FC_DEVICE_LOST && status != FC_UNAUTHORIZED;
    }
}

/* What an unharmed request of an operation may be told. */
static bool may_be_told(const session_slot *slot, fc_status status)
{
    switch (slot->op) {
    case FC_OP_HELLO:
    case FC_OP_PING:
    case FC_OP_STATS:
    case FC_OP_CANCEL:
        return status == FC_OK;
    case FC_OP_ATTEND:
        return may_attend_be_told(slot, status);
    case FC_OP_ARENA_CREATE:
    case FC_OP_ARENA_DESTROY:
        return slot->session->peers[slot->peer].id != slot->peer_id || status == FC_OK || status == FC_UNSUPPORTED ||
               status == FC_INVALID_ARGUMENT || status == FC_TOO_LARGE || status == FC_BUSY;
    case FC_OP_DRAIN:
    case FC_OP_RELOAD:
    case FC_OP_LOG_LEVEL:
    case FC_OP_DEFAULT_KERNEL:
        return status == FC_UNAUTHORIZED;
    case FC_OP_COUNT:
        break;
    }
    return true;
}

/* The peer maps what it was given and fills it. */
static void adopt_arena(session_slot *slot, const fc_wire_reply *reply)
{
    session_peer *peer = &slot->session->peers[slot->peer];
    REQUIRE(slot->fd >= 0 && reply->arena.bytes > 0);
    if (peer->id == slot->peer_id && peer->arena_count < SESSION_ARENAS) {
        session_arena *arena = &peer->arenas[peer->arena_count++];
        *arena = (session_arena){.id = reply->arena.id, .size_bytes = reply->arena.bytes};
        arena->may_change = calloc(1, arena->size_bytes);
        REQUIRE(arena->may_change != NULL);
        if (reply->arena.is_device)
            return;
        arena->base = mmap(NULL, arena->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, slot->fd, 0);
        REQUIRE(arena->base != MAP_FAILED);
        REQUIRE(arena->base[0] == 0 && memcmp(arena->base, arena->base + 1, arena->size_bytes - 1) == 0);
        memset(arena->base, ARENA_FILL, arena->size_bytes);
    }
}

static void check_outputs(const session_slot *slot, const fc_wire_reply *reply)
{
    const fc_wire_tensor *out = &reply->attend.out;
    for (size_t i = 0; out->data != NULL && i < out->data_bytes; i++)
        REQUIRE(out->data[i] == FAKE_ENGINE_FILL);
    REQUIRE(!slot->is_sent_as_encoded || reply->attend.timing.batch >= 1);
}

static void check_answer(session_slot *slot)
{
    fc_wire_reply reply;
    fc_reason reason = {""};
    REQUIRE(fc_codec_decode_reply(slot->reply, slot->size_bytes, &reply, &reason) == FC_OK);
    REQUIRE((reply.status == FC_OK) == (reply.error.bytes == 0));
    REQUIRE(is_printable(reply.error));
    REQUIRE(reply.status == FC_BUSY || reply.retry_after_us == 0);
    if (slot->is_sent_as_encoded)
        REQUIRE(reply.id == slot->id && may_be_told(slot, reply.status));
    REQUIRE((slot->fd >= 0) == (reply.body == FC_BODY_ARENA));
    if (reply.body == FC_BODY_ARENA)
        adopt_arena(slot, &reply);
    if (reply.body == FC_BODY_ATTEND)
        check_outputs(slot, &reply);
}

/* The slot's answer is there: looks at it and frees the slot. */
static void finish(session_slot *slot)
{
    REQUIRE(slot->answer_count == 1);
    if (slot->is_dropped)
        REQUIRE(slot->is_peer_gone ? slot->session->peers[slot->peer].id != slot->peer_id : slot->lacks_memory);
    else
        check_answer(slot);
    if (!slot->is_dropped && slot->leaves_later)
        fc_service_sent(slot->session->service, &slot->request, !slot->never_leaves);
    REQUIRE(slot->request.state == FC_REQUEST_DONE);
    if (slot->fd >= 0)
        close(slot->fd);
    free(slot->reply);
    slot->reply = NULL;
    slot->is_in_use = false;
}

static bool is_answered(session_slot *slot)
{
    pthread_mutex_lock(&slot->session->lock);
    bool is_answered = slot->answer_count > 0;
    pthread_mutex_unlock(&slot->session->lock);
    return is_answered;
}

static void await(session_slot *slot)
{
    session *s = slot->session;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&s->lock);
    while (slot->answer_count == 0)
        REQUIRE(pthread_cond_timedwait(&s->answered, &s->lock, &until) == 0); /* else: no answer */
    pthread_mutex_unlock(&s->lock);
}

void session_collect(session *s)
{
    for (int i = 0; i < SESSION_SLOTS; i++) {
        if (s->slots[i].is_in_use && is_answered(&s->slots[i]))
            finish(&s->slots[i]);
    }
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

session_slot *session_slot_take(session *s, uint32_t peer)
{
    session_slot *slot = NULL;
    for (int i = 0; i < SESSION_SLOTS && slot == NULL; i++)
        slot = s->slots[i].is_in_use ? NULL : &s->slots[i];
    if (slot == NULL) {
        fake_engine_release_all(&s->engine);
        slot = &s->slots[s->next_peer % SESSION_SLOTS];
        await(slot);
        finish(slot);
    }
    const session_peer *from = session_connect(s, peer);
    memset(slot, 0, sizeof *slot);
    fc_request_init(&slot->request, from->is_local ? &LOCAL_SINK : &REMOTE_SINK);
    slot->session = s;
    slot->peer = peer;
    slot->peer_id = from->id;
    slot->op = FC_OP_COUNT;
    slot->fd = -1;
    return slot;
}

void session_send(session_slot *slot, const uint8_t *bytes, size_t size_bytes)
{
    slot->message = malloc(size_bytes > 0 ? size_bytes : 1);
    REQUIRE(slot->message != NULL);
    memcpy(slot->message, bytes, size_bytes);
    slot->is_in_use = true;
    fc_service_receive(slot->session->service, &slot->request, slot->message, size_bytes, slot->peer_id);
}

/* --- peers -------------------------------------------------------------------------------------------------------- */

session_peer *session_connect(session *s, uint32_t peer)
{
    session_peer *p = &s->peers[peer];
    if (p->id == 0)
        *p = (session_peer){.id = ++s->next_peer, .is_local = peer % 2 == 1};
    return p;
}

/* Nobody wrote what no request named. By words: sessions have some 100 KiB of arenas. */
static void leave_arena(session_arena *arena)
{
    size_t whole_bytes = arena->base != NULL ? arena->size_bytes : 0;
    for (size_t i = 0; i < whole_bytes; i += sizeof(uint64_t)) {
        uint64_t held = ARENA_FILL_WORD, may_change = 0;
        size_t bytes = whole_bytes - i < sizeof held ? whole_bytes - i : sizeof held;
        memcpy(&held, arena->base + i, bytes);
        memcpy(&may_change, arena->may_change + i, bytes);
        REQUIRE(((held ^ ARENA_FILL_WORD) & ~may_change) == 0);
    }
    if (arena->base != NULL)
        munmap(arena->base, arena->size_bytes);
    free(arena->may_change);
}

void session_disconnect(session *s, uint32_t peer)
{
    session_peer *p = &s->peers[peer];
    if (p->id == 0)
        return;
    for (uint32_t i = 0; i < p->arena_count; i++)
        leave_arena(&p->arenas[i]);
    fc_service_peer_gone(s->service, p->id);
    *p = (session_peer){0};
}

/* --- beginning and end -------------------------------------------------------------------------------------------- */

fc_service *fuzz_service_open(fake_engine *engine)
{
    fc_reason reason = {""};
    fc_service *service = NULL;
    fake_engine_init(engine);
    fc_service_config config = {
        .ops = fake_engine_ops(),
        .engine = fake_engine_handle(engine),
        .engine_config = {.lane_staging_bytes = 1 << 16, .lane_segments = 8},
        .message_bytes = 1 << 16,
        .tensor_bytes = 4096,
        .tokens = 64,
        .head_dim = 128,
        .arena_bytes = 1 << 17,
        .arena_bytes_per_peer = 1 << 16,
        .tunables = {.default_kernel = FC_KERNEL_AUTO,
                     .queue_requests = 6,
                     .queue_bytes = 1 << 14,
                     .inflight_per_peer = 5,
                     .batch_requests = 3},
    };
    REQUIRE(fc_service_create(&config, &service, &reason) == FC_OK);
    return service;
}

void session_open(session *s)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->answered, NULL);
    s->service = fuzz_service_open(&s->engine);
}

static void await_no_arenas(session *s)
{
    uint64_t until_ns = fc_clock_now_ns() + PATIENCE_S * FC_NS_PER_S;
    while (fc_stats_get(fc_service_stats(s->service), FC_GAUGE_ARENA_BYTES) > 0) {
        REQUIRE(fc_clock_now_ns() < until_ns);
        sched_yield();
    }
}

void session_drain(session *s)
{
    s->is_draining = true;
    fc_service_drain(s->service);
}

void session_close(session *s)
{
    const fc_stat GAUGES[] = {FC_GAUGE_QUEUED, FC_GAUGE_QUEUED_BYTES, FC_GAUGE_RUNNING, FC_GAUGE_REPLYING};
    fake_engine_release_all(&s->engine);
    session_drain(s);
    for (int i = 0; i < SESSION_SLOTS; i++) {
        if (s->slots[i].is_in_use) {
            await(&s->slots[i]);
            finish(&s->slots[i]);
        }
    }
    for (uint32_t i = 0; i < SESSION_PEERS; i++)
        session_disconnect(s, i);
    REQUIRE(fc_service_is_idle(s->service));
    for (size_t i = 0; i < sizeof GAUGES / sizeof GAUGES[0]; i++)
        REQUIRE(fc_stats_get(fc_service_stats(s->service), GAUGES[i]) == 0);
    await_no_arenas(s);
    fc_service_stop(s->service);
    fc_service_destroy(s->service);
    fake_engine_fini(&s->engine);
    pthread_cond_destroy(&s->answered);
    pthread_mutex_destroy(&s->lock);
}
