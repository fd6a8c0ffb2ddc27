/* libFuzzer's way in to whole sessions: the input says which connection does what next, byte by byte. Built by `make
 * fuzz` alone. */
#include "tests/fuzz/session.h"

#include "proto/codec.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

typedef struct input {
    const uint8_t *bytes;
    size_t left;
} input;

/* 0 when the input is used up. */
static uint8_t next(input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->bytes++;
}

static uint32_t below(input *in, uint32_t limit)
{
    return next(in) % limit;
}

/* --- requests -------------------------------------------------------------------------------------------------------
 */

enum { DATA_BYTES = 8192, MESSAGE_BYTES = 3 * DATA_BYTES + 4096 };

static const uint8_t DATA[DATA_BYTES];

static const session_arena *arena_of(const session_peer *peer, uint32_t index)
{
    return peer->arena_count > 0 ? &peer->arenas[index % peer->arena_count] : NULL;
}

/* Mostly a place that fits, in an arena of the peer. */
static fc_wire_place place(input *in, const session_peer *peer)
{
    const session_arena *arena = arena_of(peer, next(in));
    uint8_t shift = next(in);
    fc_wire_place at = {.is_set = true, .arena = arena != NULL ? arena->id : 77, .offset = shift * 64u};
    if (shift == 255)
        at.offset = 1 + next(in); /* not aligned */
    else if (shift == 254)
        at.offset = UINT64_MAX - next(in);
    return at;
}

static fc_wire_tensor tensor(input *in, const session_peer *peer, fc_dtype dtype, const uint64_t *shape)
{
    fc_wire_tensor t = {.dtype = dtype, .rank = 4, .data = DATA};
    memcpy(t.shape, shape, sizeof t.shape);
    t.data_bytes = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]) * fc_dtype_bytes(dtype);
    if (peer->is_local && below(in, 8) != 0) {
        t.place = place(in, peer);
        t.data = NULL;
    } else if (t.data_bytes > sizeof DATA) {
        t.shape[2] = 0;
        t.data_bytes = 0;
    }
    return t;
}

/* What the request may write there is no longer held against it. */
static void expect_change(session_peer *peer, fc_wire_place at, size_t bytes)
{
    for (uint32_t i = 0; at.is_set && i < peer->arena_count; i++) {
        session_arena *arena = &peer->arenas[i];
        if (arena->id == at.arena && at.offset < arena->size_bytes && bytes <= arena->size_bytes - at.offset)
            memset(arena->may_change + at.offset, 0xff, bytes);
    }
}

static fc_wire_attend attend(input *in, session_peer *peer, uint32_t *out_kv_len)
{
    static const char *const KERNELS[] = {"cpu", "auto", "fused", "nonesuch"};
    static const uint64_t HEAD_DIMS[] = {8, 16, 64, 136};
    fc_dtype dtype = (fc_dtype)below(in, FC_DTYPE_COUNT);
    uint64_t batch = below(in, 4), kv_heads = 1 + below(in, 2), head_dim = HEAD_DIMS[below(in, 4)];
    uint64_t q_shape[] = {batch, kv_heads * (1 + below(in, 2)), below(in, 5), head_dim};
    uint64_t kv_shape[] = {batch, kv_heads, below(in, 6), head_dim};
    fc_wire_attend a = {.window_left = (int64_t)below(in, 4) - 1, .window_right = (int64_t)below(in, 4) - 1};
    uint8_t choices = next(in);
    a.q = tensor(in, peer, dtype, q_shape);
    a.k = tensor(in, peer, dtype, kv_shape);
    kv_shape[2] += choices >> 7; /* v of another length now and then */
    a.v = tensor(in, peer, dtype, kv_shape);
    a.layout = (fc_layout)(choices & 1);
    a.causal = (fc_causal)((choices >> 1) % FC_CAUSAL_COUNT);
    a.wants_lse = (choices & 8) != 0;
    a.has_scale = (choices & 16) != 0;
    a.scale = a.has_scale ? (float)next(in) - 3 : 0;
    a.deadline_us = (choices & 32) != 0 ? 1 + next(in) : 0;
    if ((choices & 64) != 0)
        a.kernel = fc_wire_text_make(KERNELS[below(in, 4)]);
    a.has_kv_len = below(in, 3) == 0;
    a.kv_len_count = a.has_kv_len ? (uint32_t)batch : 0;
    for (uint32_t i = 0; i < a.kv_len_count; i++)
        out_kv_len[i] = below(in, 7);
    if (peer->is_local && below(in, 4) != 0) {
        a.out_at = place(in, peer);
        expect_change(peer, a.out_at, a.q.data_bytes);
        if (a.wants_lse) {
            a.lse_at = place(in, peer);
            expect_change(peer, a.lse_at, (size_t)(q_shape[0] * q_shape[1] * q_shape[2]) * sizeof(float));
        }
    }
    return a;
}

/* The peer sends something, nobody knows what. */
static void expect_anything(session_peer *peer)
{
    memset(peer->has_cancelled, 1, sizeof peer->has_cancelled);
    for (uint32_t i = 0; i < peer->arena_count; i++)
        memset(peer->arenas[i].may_change, 0xff, peer->arenas[i].size_bytes);
}

/* Encodes and sends, one byte of it changed now and then. */
static void send_request(input *in, session *s, uint32_t peer, const fc_wire_request *request, const uint32_t *kv_len)
{
    static uint8_t message[MESSAGE_BYTES];
    size_t size = 0;
    if (fc_codec_encode_request(request, kv_len, message, sizeof message, &size) != FC_OK)
        return;
    session_slot *slot = session_slot_take(s, peer);
    uint8_t manner = next(in);
    slot->op = request->op;
    slot->id = request->id;
    slot->has_deadline = request->attend.deadline_us > 0;
    slot->lacks_memory = manner % 32 == 1;
    slot->leaves_later = manner % 8 == 2;
    slot->never_leaves = manner % 16 == 2;
    slot->is_sent_as_encoded = manner % 8 != 3;
    if (!slot->is_sent_as_encoded) {
        message[(next(in) + 256u * next(in)) % size] ^= (uint8_t)(1 + below(in, 255));
        expect_anything(&s->peers[peer]);
    }
    session_send(slot, message, size);
}

static void ask(input *in, session *s, uint32_t peer, fc_op op)
{
    session_peer *p = session_connect(s, peer);
    const session_arena *arena = arena_of(p, next(in));
    uint32_t kv_len[4];
    fc_wire_request request = {.id = below(in, 8), .op = op}; /* few, so that cancels meet */
    request.cancel_target = below(in, 8);
    request.word = fc_wire_text_make(op == FC_OP_LOG_LEVEL ? "error" : "cpu");
    request.arena_bytes = 1 + 300u * next(in);
    request.arena_kind = (fc_arena_kind)(below(in, 4) / 3);
    request.arena = arena != NULL ? arena->id : next(in);
    if (op == FC_OP_ATTEND)
        request.attend = attend(in, p, kv_len);
    if (op == FC_OP_ARENA_DESTROY && arena != NULL)
        memset(arena->may_change, 0xff, arena->size_bytes); /* its pages go back */
    if (op == FC_OP_CANCEL)
        p->has_cancelled[request.cancel_target] = true;
    send_request(in, s, peer, &request, kv_len);
}

static void send_noise(input *in, session *s, uint32_t peer)
{
    uint8_t noise[64];
    size_t size = below(in, sizeof noise);
    for (size_t i = 0; i < size; i++)
        noise[i] = next(in);
    expect_anything(session_connect(s, peer));
    session_send(session_slot_take(s, peer), noise, size);
}

/* --- sessions -------------------------------------------------------------------------------------------------------
 */

static void step(input *in, session *s)
{
    uint8_t what = next(in);
    uint32_t peer = what / 64; /* SESSION_PEERS of them */
    switch (what % 16) {
    case 0:
        fake_engine_hold(&s->engine);
        return;
    case 1:
        fake_engine_release(&s->engine, 1 + below(in, 3));
        return;
    case 2:
        session_disconnect(s, peer);
        return;
    case 3:
        fc_service_tick(s->service, UINT64_MAX / 2);
        return;
    case 4:
        send_noise(in, s, peer);
        return;
    case 5:
        session_collect(s);
        return;
    case 6:
        if (what == 6)
            session_drain(s);
        return;
    case 7:
    case 8:
        ask(in, s, peer, FC_OP_ARENA_CREATE);
        return;
    case 9:
        ask(in, s, peer, (fc_op)below(in, FC_OP_COUNT));
        return;
    default:
        ask(in, s, peer, FC_OP_ATTEND);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static session s;
    input in = {bytes, size};
    session_open(&s);
    while (in.left > 0)
        step(&in, &s);
    session_close(&s);
    return 0;
}
