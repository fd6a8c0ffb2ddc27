/* What must hold for any bytes whatever, for the fuzzers and for the replay of their corpus. Abort on the first thing
 * that does not hold, after saying what.
 */
#ifndef FC_TESTS_FUZZ_ENTRY_H
#define FC_TESTS_FUZZ_ENTRY_H

#include <stddef.h>
#include <stdint.h>

/* Decodes the bytes as a request (a reply). Refused: with a status the contract knows and a printable reason. Accepted:
 * every pointer lies inside the message; msgpack-c reads the same values; encoding fits its bound, and decoding what
 * was encoded and encoding that gives the same bytes. */
void fc_fuzz_request(const uint8_t *bytes, size_t size);
void fc_fuzz_reply(const uint8_t *bytes, size_t size);

#endif
