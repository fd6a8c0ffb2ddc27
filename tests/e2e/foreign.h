/* A client that is not ours: msgpack written and read by hand, a plain nng REQ socket, and a bare socket for bytes no
 * client would send. Shares nothing with proto/codec.c or client/, so that a mistake on both of their sides shows.
 *
 * Everything fails the running test when the far side does not do what is waited for.
 */
#ifndef FC_TESTS_E2E_FOREIGN_H
#define FC_TESTS_E2E_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- writing ---------------------------------------------------------------------------------------------------- */

typedef struct fc_bytes {
    uint8_t *data;
    size_t size, capacity;
} fc_bytes;

void fc_bytes_add(fc_bytes *bytes, const void *data, size_t size);
void fc_bytes_add_hex(fc_bytes *bytes, const char *hex); /* "83 a5 70", blanks free */
void fc_bytes_fini(fc_bytes *bytes);

void fc_pack_map(fc_bytes *bytes, uint32_t count);
void fc_pack_array(fc_bytes *bytes, uint32_t count);
void fc_pack_text(fc_bytes *bytes, const char *text);
void fc_pack_uint(fc_bytes *bytes, uint64_t value);
void fc_pack_int(fc_bytes *bytes, int64_t value);
void fc_pack_bool(fc_bytes *bytes, bool value);
void fc_pack_float(fc_bytes *bytes, float value);
void fc_pack_bin(fc_bytes *bytes, const void *data, size_t size);

/* proto, id, op: the head every request has; the map has extra_count more entries. */
void fc_pack_head(fc_bytes *bytes, uint64_t id, const char *op, uint32_t extra_count);

/* A tensor's map under this key: f32 data of a few repeating values. */
void fc_pack_tensor(fc_bytes *bytes, const char *key, const char *dtype, const uint64_t shape[4], size_t data_bytes);

/* A whole right attend request, [1,2,3,8] against [1,1,5,8] in f32. */
void fc_pack_attend(fc_bytes *bytes, uint64_t id);

/* One of a quick kernel: a q of so many bytes, a multiple of 128, against a single key. Its reply is as large. */
void fc_pack_large_attend(fc_bytes *bytes, uint64_t id, size_t q_bytes);

/* --- reading ---------------------------------------------------------------------------------------------------- */

/* A value inside a reply: where its encoding starts and ends. begin NULL: absent. */
typedef struct fc_value {
    const uint8_t *begin, *end;
} fc_value;

fc_value fc_reply_get(const fc_bytes *reply, const char *key);
fc_value fc_value_get(fc_value map, const char *key);
bool fc_value_is_text(fc_value value, const char *text);
bool fc_value_has_text(fc_value value, const char *part); /* a text that holds part */
uint64_t fc_value_uint(fc_value value);
const uint8_t *fc_value_bin(fc_value value, size_t *out_size);
uint32_t fc_value_count(fc_value value); /* entries of an array or map */

/* --- plain nng -------------------------------------------------------------------------------------------------- */

typedef struct fc_foreign {
    uint32_t socket;
} fc_foreign;

fc_foreign fc_foreign_open(const char *url);
void fc_foreign_close(fc_foreign *foreign);

/* Sends the message and waits for its reply; out_reply's old content is freed. */
void fc_foreign_call(fc_foreign *foreign, const fc_bytes *request, fc_bytes *out_reply);

/* Sends it alone, for replies that will not come or are read later. */
void fc_foreign_send(fc_foreign *foreign, const fc_bytes *request);
void fc_foreign_receive(fc_foreign *foreign, fc_bytes *out_reply);

/* Sends the request (called `name` in the failure's text) and wants this status for this id in the reply, with an error
 * that holds `key` (NULL: any or none). */
void fc_foreign_expect(fc_foreign *foreign, const char *name, const fc_bytes *request, uint64_t id, const char *status,
                       const char *key);

/* --- a bare socket ---------------------------------------------------------------------------------------------- */

/* Connects to ipc://PATH or tcp://127.0.0.1:PORT. -1: refused, errno says why. */
int fc_raw_connect(const char *url);
void fc_raw_send(int fd, const void *data, size_t size);

/* The SP greeting of a REQ, then one frame holding a REQ header and this payload. */
void fc_raw_greet(int fd);
void fc_raw_send_frame(int fd, bool is_ipc, const void *payload, size_t size);

/* Connects, greets and sends the request in a frame; the connection. */
int fc_raw_ask(const char *url, const fc_bytes *request);

/* Reads until the far side closes the connection; how many bytes came. Fails after FC_E2E_STOP_MS. */
size_t fc_raw_read_all(int fd);

/* Waits until the far side closes the connection; false when it stays open past the limit. */
bool fc_raw_wait_closed(int fd, int limit_ms);

#endif
