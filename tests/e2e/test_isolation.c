/* No byte of one caller reaches another. One peer fills whatever the daemon has with a mark: its messages, its arenas,
 * the lanes' buffers, the replies' memory, and malloc() gives out memory filled with it. Another peer's answers, of
 * every kind, must not hold the mark; and what an error says is about the request alone.
 */
#include "tests/e2e/harness.h"
#include "tests/support/packet_arena.h"
#include "tests/support/sp_peer.h"

#include <stdlib.h>
#include <string.h>

/* A finite number in every dtype. Four in a row are no text, and no number of a right answer to zeros. */
enum { MARK = 0x5a, MARK_RUN = 4 };
enum { MARKED_TOKENS = 300, ARENA_BYTES = 1 << 20 };
/* The daemon's malloc() fills what it gives out with the complement of this (glibc; sanitizers have their own). */
#define PERTURB_MARK "165"

static uint8_t marks[4 * MARKED_TOKENS * 64 * sizeof(float)], zeros[4 * MARKED_TOKENS * 64 * sizeof(float)];

static bool has_mark(const uint8_t *bytes, size_t size_bytes)
{
    size_t run = 0;
    for (size_t i = 0; i < size_bytes && run < MARK_RUN; i++)
        run = bytes[i] == MARK ? run + 1 : 0;
    return run == MARK_RUN;
}

typedef struct shape {
    const char *name;
    fc_dtype dtype;
    fc_layout layout;
    uint64_t batch, q_heads, kv_heads, q_len, kv_len, head_dim;
    uint32_t kv_lens[3]; /* with has_kv_lens */
    bool has_kv_lens, wants_lse;
    const char *kernel;
    fc_status status;
} shape;

static const shape MARKED = {"marked", FC_F16, FC_BHSD, 1, 4, 4, MARKED_TOKENS, MARKED_TOKENS, 64, .wants_lse = true};

static const shape SHAPES[] = {
    {"one row", FC_F16, FC_BHSD, 1, 1, 1, 1, 1, 8, .wants_lse = true},
    {"odd rows", FC_F16, FC_BHSD, 1, 3, 1, 7, 13, 24, .wants_lse = true},
    {"bshd", FC_BF16, FC_BSHD, 2, 2, 2, 33, 65, 40, .wants_lse = true},
    {"f32", FC_F32, FC_BHSD, 1, 2, 2, 129, 127, 64, .wants_lse = true},
    {"large", FC_F16, FC_BHSD, 1, 4, 4, 150, 130, 64, .wants_lse = true},
    {"ragged", FC_F16, FC_BHSD, 3, 2, 1, 17, 90, 64, {0, 1, 90}, true, .wants_lse = true},
    {"no key in use", FC_F32, FC_BHSD, 2, 2, 2, 5, 64, 16, {0, 0}, true, .wants_lse = true},
    {"no keys", FC_F16, FC_BHSD, 1, 2, 2, 9, 0, 64, .wants_lse = true},
    {"no queries", FC_F16, FC_BHSD, 1, 2, 2, 0, 9, 64, .wants_lse = true},
    {"no batch", FC_F16, FC_BHSD, 0, 2, 2, 9, 9, 64, .wants_lse = true},
    {"decode", FC_BF16, FC_BHSD, 3, 8, 2, 1, 200, 64, .wants_lse = false},
    {"unknown kernel", FC_F16, FC_BHSD, 1, 1, 1, 4, 4, 8, .kernel = "nonesuch", .status = FC_INVALID_ARGUMENT},
    {"head_dim", FC_F16, FC_BHSD, 1, 1, 1, 4, 4, 12, .status = FC_UNSUPPORTED},
    {"heads", FC_F16, FC_BHSD, 1, 3, 2, 4, 4, 8, .status = FC_INVALID_ARGUMENT},
    {"kv_len past the keys", FC_F16, FC_BHSD, 1, 1, 1, 4, 4, 8, {5}, true, .status = FC_INVALID_ARGUMENT},
};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof SHAPES[0] };

static fc_wire_tensor tensor_of(const shape *s, uint64_t heads, uint64_t tokens, const uint8_t *data)
{
    fc_wire_tensor t = {.dtype = s->dtype, .rank = 4, .shape = {s->batch, heads, tokens, s->head_dim}, .data = data};
    if (s->layout == FC_BSHD) {
        t.shape[1] = tokens;
        t.shape[2] = heads;
    }
    t.data_bytes = s->batch * heads * tokens * s->head_dim * fc_dtype_bytes(s->dtype);
    ck_assert_uint_le(t.data_bytes, sizeof marks);
    return t;
}

static fc_wire_request attend_of(const shape *s, uint64_t id, const uint8_t *data)
{
    fc_wire_request request = {.id = id, .op = FC_OP_ATTEND};
    fc_wire_attend *attend = &request.attend;
    attend->q = tensor_of(s, s->q_heads, s->q_len, data);
    attend->k = tensor_of(s, s->kv_heads, s->kv_len, data);
    attend->v = tensor_of(s, s->kv_heads, s->kv_len, data);
    attend->layout = s->layout;
    attend->window_left = attend->window_right = -1;
    attend->has_kv_len = s->has_kv_lens;
    attend->kv_len_count = s->has_kv_lens ? (uint32_t)s->batch : 0;
    attend->wants_lse = s->wants_lse;
    if (s->kernel != NULL)
        attend->kernel = fc_wire_text_make(s->kernel);
    return request;
}

static size_t encode(const shape *s, const fc_wire_request *request, uint8_t **out_bytes)
{
    size_t size_bytes = 0, capacity_bytes = fc_codec_request_bound(request, 3);
    *out_bytes = malloc(capacity_bytes);
    ck_assert_ptr_nonnull(*out_bytes);
    ck_assert_int_eq(
        fc_codec_encode_request(request, s->has_kv_lens ? s->kv_lens : NULL, *out_bytes, capacity_bytes, &size_bytes),
        FC_OK);
    return size_bytes;
}

/* --- errors ------------------------------------------------------------------------------------------------------- */

/* What tells about the server: places in its memory or file system, names it gives things, words of the system. */
static void assert_tells_nothing(const char *name, fc_wire_text error)
{
    static const char *const words[] = {"0x",  "/tmp",  "/run", "/usr", "/proc",  ".sock",   ".local", "memfd",
                                        "nng", "errno", "mmap", "cuda", "malloc", "pthread", "lane-",  "fd "};
    char text[256];
    ck_assert_uint_lt(error.bytes, sizeof text);
    memcpy(text, error.text, error.bytes);
    text[error.bytes] = '\0';
    for (size_t i = 0; i < error.bytes; i++)
        ck_assert_msg(text[i] >= ' ' && text[i] <= '~', "%s: byte %zu of \"%s\"", name, i, text);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        ck_assert_msg(strstr(text, words[i]) == NULL, "%s: \"%s\" has %s", name, text, words[i]);
}

/* --- through messages --------------------------------------------------------------------------------------------- */

static void look_at_reply(const char *name, const sp_peer *peer, const fc_wire_reply *reply)
{
    ck_assert_msg(!has_mark(peer->reply, peer->reply_bytes), "%s: another's bytes are in the reply", name);
    if (reply->status != FC_OK)
        assert_tells_nothing(name, reply->error);
}

static void fill_with_marks(sp_peer *peer)
{
    uint32_t number = 0;
    fc_wire_reply reply;
    fc_wire_request request = attend_of(&MARKED, 1, marks);
    sp_peer_request(peer, 1, &request);
    sp_peer_await(peer, &number, &reply);
    ck_assert_int_eq(reply.status, FC_OK);
    /* What it gets is the mark all over: the means of rows of marks. */
    ck_assert(has_mark(reply.attend.out.data, reply.attend.out.data_bytes));
}

static void check_zeros(const shape *s, const fc_wire_reply *reply)
{
    const fc_wire_tensor *out = &reply->attend.out;
    ck_assert_uint_eq(out->data_bytes, s->batch * s->q_heads * s->q_len * s->head_dim * fc_dtype_bytes(s->dtype));
    ck_assert_msg(out->data_bytes == 0 || memcmp(out->data, zeros, out->data_bytes) == 0, "%s: not zeros", s->name);
}

static void ask(sp_peer *peer, uint32_t number, const shape *s)
{
    uint8_t *bytes;
    uint32_t answered = 0;
    fc_wire_reply reply;
    fc_wire_request request = attend_of(s, number, zeros);
    size_t size_bytes = encode(s, &request, &bytes);
    sp_peer_send(peer, number, bytes, size_bytes);
    sp_peer_await(peer, &answered, &reply);
    ck_assert_msg(reply.status == s->status, "%s: %s: %.*s", s->name, fc_status_name(reply.status),
                  (int)reply.error.bytes, reply.error.text);
    look_at_reply(s->name, peer, &reply);
    if (s->status == FC_OK)
        check_zeros(s, &reply);
    free(bytes);
}

/* Other kinds of answers, and what is no request at all. */
static void ask_for_the_rest(sp_peer *peer)
{
    static const fc_op ops[] = {FC_OP_HELLO,  FC_OP_PING,         FC_OP_STATS,
                                FC_OP_CANCEL, FC_OP_ARENA_CREATE, FC_OP_ARENA_DESTROY};
    uint32_t number = 0;
    fc_wire_reply reply;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        fc_wire_request request = {.id = i, .op = ops[i], .cancel_target = 7, .arena_bytes = 4096, .arena = 1};
        sp_peer_request(peer, 900, &request);
        sp_peer_await(peer, &number, &reply);
        look_at_reply("operation", peer, &reply);
    }
    /* Each byte of a small attend changed in some ways: hundreds of refusals. */
    uint8_t *bytes;
    fc_wire_request request = attend_of(&SHAPES[0], 5, zeros);
    size_t size_bytes = encode(&SHAPES[0], &request, &bytes);
    static const uint8_t flips[] = {0x01, 0xff};
    for (size_t i = 0; i < size_bytes; i++) {
        for (size_t k = 0; k < sizeof flips; k++) {
            bytes[i] ^= flips[k];
            sp_peer_send(peer, 901, bytes, size_bytes);
            sp_peer_await(peer, &number, &reply);
            look_at_reply("mutant", peer, &reply);
            bytes[i] ^= flips[k];
        }
    }
    free(bytes);
}

/* _i: 0 ipc, 1 tcp; 2, 3: the same, with --scrub. */
START_TEST(messages_hold_nothing_of_others)
{
    enum { ROUNDS = 2 };
    fc_e2e_daemon daemon;
    sp_peer marker, other;
    setenv("MALLOC_PERTURB_", PERTURB_MARK, 1);
    fc_e2e_start(&daemon, _i < 2 ? NULL : (const char *const[]){"--scrub", NULL});
    const char *url = _i % 2 == 0 ? daemon.ipc_url : daemon.tcp_url;
    sp_peer_open(&marker, url);
    sp_peer_open(&other, url);
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < SHAPE_COUNT; i++) {
            fill_with_marks(&marker);
            ask(&other, i + 1, &SHAPES[i]);
        }
    }
    fill_with_marks(&marker);
    ask_for_the_rest(&other);
    sp_peer_close(&marker);
    sp_peer_close(&other);
    fc_e2e_stop(&daemon);
}
END_TEST

/* --- through arenas ----------------------------------------------------------------------------------------------- */

/* Where the five tensors lie; between them there is what no request names. */
enum { PLACE_BYTES = ARENA_BYTES / 5 / 4096 * 4096, UNTOUCHED = 0x11 };

typedef struct shared {
    packet_peer peer;
    packet_arena arena;
} shared;

static void open_arena(shared *a, const char *path)
{
    packet_peer_open(&a->peer, path);
    a->arena = packet_arena_make(&a->peer, FC_ARENA_HOST, ARENA_BYTES);
}

static void close_arena(shared *a)
{
    packet_arena_drop(&a->arena);
    packet_peer_close(&a->peer);
}

/* Inputs, and untouched outputs, at their places. Returns the reply's status. */
static fc_status attend_in(shared *a, const shape *s, uint64_t id, const uint8_t *inputs)
{
    uint8_t *bytes;
    fc_wire_reply reply;
    fc_wire_request request = attend_of(s, id, NULL);
    fc_wire_tensor *tensors[] = {&request.attend.q, &request.attend.k, &request.attend.v};
    memset(a->arena.base, UNTOUCHED, ARENA_BYTES);
    for (uint64_t i = 0; i < 3; i++) {
        ck_assert_uint_le(tensors[i]->data_bytes, PLACE_BYTES);
        memcpy(a->arena.base + i * PLACE_BYTES, inputs, tensors[i]->data_bytes);
        tensors[i]->place = (fc_wire_place){true, a->arena.id, i * PLACE_BYTES};
    }
    request.attend.out_at = (fc_wire_place){true, a->arena.id, 3 * PLACE_BYTES};
    if (s->wants_lse)
        request.attend.lse_at = (fc_wire_place){true, a->arena.id, 4 * PLACE_BYTES};
    size_t size_bytes = encode(s, &request, &bytes);
    ck_assert(packet_peer_send_bytes(&a->peer, bytes, size_bytes));
    free(bytes);
    ck_assert(packet_peer_receive(&a->peer, &reply));
    ck_assert_msg(!has_mark(a->peer.reply, a->peer.reply_bytes), "%s: another's bytes are in the reply", s->name);
    if (reply.status != FC_OK)
        assert_tells_nothing(s->name, reply.error);
    return reply.status;
}

static void check_untouched(const char *name, const shared *a, uint64_t place, size_t from)
{
    for (size_t i = from; i < PLACE_BYTES; i++)
        ck_assert_msg(a->arena.base[place * PLACE_BYTES + i] == UNTOUCHED, "%s: byte %zu of place %d", name, i,
                      (int)place);
}

static void check_arena(const shared *a, const shape *s)
{
    uint64_t rows = s->batch * s->q_heads * s->q_len;
    size_t out_bytes = s->status == FC_OK ? rows * s->head_dim * fc_dtype_bytes(s->dtype) : 0;
    size_t lse_bytes = s->status == FC_OK && s->wants_lse ? rows * sizeof(float) : 0;
    ck_assert_msg(!has_mark(a->arena.base, ARENA_BYTES), "%s: another's bytes are in the arena", s->name);
    ck_assert_msg(memcmp(a->arena.base + 3 * PLACE_BYTES, zeros, out_bytes) == 0, "%s: not zeros", s->name);
    check_untouched(s->name, a, 3, out_bytes);
    check_untouched(s->name, a, 4, lse_bytes);
}

START_TEST(arenas_hold_nothing_of_others)
{
    fc_e2e_daemon daemon;
    shared marker, other;
    setenv("MALLOC_PERTURB_", PERTURB_MARK, 1);
    fc_e2e_start(&daemon, NULL);
    open_arena(&other, daemon.side_path);
    for (uint32_t i = 0; i < SHAPE_COUNT; i++) {
        /* The marked arena comes and goes, so that the next one has its memory. */
        open_arena(&marker, daemon.side_path);
        ck_assert_msg(marker.arena.base[0] == 0 &&
                          memcmp(marker.arena.base, marker.arena.base + 1, ARENA_BYTES - 1) == 0,
                      "not empty");
        ck_assert_int_eq(attend_in(&marker, &MARKED, 1, marks), FC_OK);
        memset(marker.arena.base, MARK, ARENA_BYTES);
        close_arena(&marker);
        fc_status status = attend_in(&other, &SHAPES[i], i, zeros);
        ck_assert_msg(status == SHAPES[i].status, "%s: %s", SHAPES[i].name, fc_status_name(status));
        check_arena(&other, &SHAPES[i]);
    }
    close_arena(&other);
    fc_e2e_stop(&daemon);
}
END_TEST

int main(void)
{
    memset(marks, MARK, sizeof marks);
    Suite *suite = suite_create("isolation");
    TCase *core = fc_e2e_case(suite, "core");
    tcase_add_loop_test(core, messages_hold_nothing_of_others, 0, 4);
    tcase_add_test(core, arenas_hold_nothing_of_others);
    return fc_e2e_main(suite);
}
