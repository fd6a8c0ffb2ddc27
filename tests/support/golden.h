/* The worked messages of proto/PROTOCOL.md, frozen in tests/golden/NAME.hex. Tests run in the repository's root. */
#ifndef FC_TESTS_GOLDEN_H
#define FC_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FC_GOLDEN_BYTES 1024
#define FC_GOLDEN_MAX 32

typedef struct fc_golden {
    char name[64];
    uint8_t bytes[FC_GOLDEN_BYTES];
    size_t size;
} fc_golden;

/* Fails the running test when the file cannot be read. */
void fc_golden_load(const char *name, fc_golden *out_golden);

/* Every message that is a request, a reply; "wire-" transcripts are neither. Returns how many. */
size_t fc_golden_load_all(fc_golden out_goldens[FC_GOLDEN_MAX]);
bool fc_golden_is_request(const fc_golden *golden);

/* The bytes of a hex block: pairs, ; starts a comment, a line that starts with # is one. Returns how many. */
size_t fc_golden_parse(const char *block, size_t block_bytes, uint8_t *out_bytes, size_t capacity);

/* A whole file as a string to free(). Fails the running test when it cannot be read. */
char *fc_golden_read_file(const char *path);

#endif
