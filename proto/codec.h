/* Bytes to message structs and back. Its five .c files (scan, read, request, reply, write) share three headers of their
 * own; msgpack-c stays in codec_write.c.
 *
 * Decoding trusts nothing and allocates nothing: one pass bounds depth, item counts and every length by the bytes
 * received (five bytes can claim an 8 GiB array), and the same pass gives the values, so no second parser can see the
 * bytes differently. Tensor data is never copied: the structs point into the message. Encoding writes into memory the
 * caller provides. No state, any thread; a call needs some 32 KiB of stack.
 */
#ifndef FC_PROTO_CODEC_H
#define FC_PROTO_CODEC_H

#include "proto/message.h"

/* Decodes a request. On failure out_request->id still holds the sender's id when it could be read, else 0, so that the
 * error can be sent back to whom it belongs. FC_INVALID_ARGUMENT: out_reason names the key at fault and what would be
 * right. FC_UNSUPPORTED: another `proto` version, or an unknown op. */
fc_status fc_codec_decode_request(const void *bytes, size_t size_bytes, fc_wire_request *out_request,
                                  fc_reason *out_reason);

/* Decodes a reply; FC_BAD_REPLY with a reason when it does not follow the protocol. */
fc_status fc_codec_decode_reply(const void *bytes, size_t size_bytes, fc_wire_reply *out_reply, fc_reason *out_reason);

/* The id of a reply, without looking at the rest more closely than to see that it is a message. */
bool fc_codec_reply_id(const void *bytes, size_t size_bytes, uint64_t *out_id);

/* Copies the request's kv_len entries (checked at decoding: uints below 2^31) to out_kv_len[attend->kv_len_count]. */
void fc_codec_kv_len(const fc_wire_attend *attend, uint32_t *out_kv_len);

/* An upper bound of the encoded size: exact but for 64 spare bytes (timings and batch may change between this and the
 * encoding, texts and shapes may not) and 5 bytes a kv_len entry. Reads no tensor data. SIZE_MAX: a tensor is too large
 * to encode. */
size_t fc_codec_request_bound(const fc_wire_request *request, uint32_t kv_len_count);
size_t fc_codec_reply_bound(const fc_wire_reply *reply);

/* Encodes into buffer[capacity]; *out_size_bytes is what was used. kv_len: request->attend.kv_len_count entries, or
 * NULL. One message has one encoding: fixed key order, keys at their default left out. FC_TOO_LARGE: it does not fit,
 * or a tensor has 4 GiB or more. FC_INVALID_ARGUMENT: a tensor's data_bytes contradict its shape. */
fc_status fc_codec_encode_request(const fc_wire_request *request, const uint32_t *kv_len, void *buffer,
                                  size_t capacity_bytes, size_t *out_size_bytes);
fc_status fc_codec_encode_reply(const fc_wire_reply *reply, void *buffer, size_t capacity_bytes,
                                size_t *out_size_bytes);

/* An ok attend reply whose tensors are written where they are sent from. begin reads id, status and the tensors' dtype,
 * rank and shape, writes everything up to the tensors and hands out where out and lse go (lse NULL unless
 * reply->attend.has_lse; neither is aligned); the kernel's results go there; end appends kernel, device and timing.
 * Data pointers of the reply's tensors are ignored. Nobody needs to end what was begun: the buffer stays the caller's.
 */
typedef struct fc_codec_attend_reply {
    uint8_t *buffer;
    size_t capacity_bytes, used_bytes;
    uint8_t *out_data;
    uint8_t *lse_data;
} fc_codec_attend_reply;

fc_status fc_codec_attend_reply_begin(const fc_wire_reply *reply, void *buffer, size_t capacity_bytes,
                                      fc_codec_attend_reply *out_writer);
fc_status fc_codec_attend_reply_end(fc_codec_attend_reply *writer, const fc_wire_reply *reply, size_t *out_size_bytes);

#endif
