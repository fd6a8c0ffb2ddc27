/* msgpack from a readable line, for tables of messages in tests:
 *
 *     {proto:1 id:2 op:'ping' a:[1 -2 0.5 nan inf nil true false] d:b32 <c1>}
 *
 * 'text', b32: bin of 32 zero bytes, <..>: raw bytes in hex, number with a point: float 64. Maps and arrays are written
 * in their 16-bit form, integers at their shortest. Raw bytes count as one entry; `*N` right after { or [ states N as
 * the count instead of the true one.
 */
#ifndef FC_TESTS_NOTATION_H
#define FC_TESTS_NOTATION_H

#include <stddef.h>
#include <stdint.h>

/* Writes at most capacity bytes and returns how many; fails the running test on a line it cannot read. */
size_t fc_notation_pack(const char *line, uint8_t *out_bytes, size_t capacity);

#endif
