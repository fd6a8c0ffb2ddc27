/* libFuzzer's way in to the config file: any bytes as one. What is taken prints as lines that give the same again.
 * Built by `make fuzz` alone. */
#include "daemon/options.h"
#include "tests/fuzz/require.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Reads the bytes as a file. */
static fc_status read_config(const void *bytes, size_t size, fc_options *out_options, fc_reason *out_reason)
{
    char path[64];
    int fd = memfd_create("config", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fc_options_defaults(out_options);
    fc_status st = fc_config_file_read(path, out_options, out_reason);
    close(fd);
    return st;
}

/* The caller frees it. */
static char *print(const fc_options *options, size_t *out_bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, out_bytes);
    REQUIRE(out != NULL);
    fc_options_print_effective(out, options);
    fclose(out);
    return text;
}

static void require_prints_the_same(const fc_options *options)
{
    static fc_options again;
    fc_reason reason = {""};
    size_t first_bytes = 0, second_bytes = 0;
    char *first = print(options, &first_bytes);
    REQUIRE(read_config(first, first_bytes, &again, &reason) == FC_OK);
    for (int id = 0; id < FC_OPTION_COUNT; id++)
        again.sources[id] = options->sources[id];
    char *second = print(&again, &second_bytes);
    REQUIRE(first_bytes == second_bytes && memcmp(first, second, first_bytes) == 0);
    free(first);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static fc_options options;
    fc_reason reason = {""};
    fc_status st = read_config(bytes, size, &options, &reason);
    if (st == FC_OK) {
        require_prints_the_same(&options);
    } else {
        REQUIRE(st == FC_INVALID_ARGUMENT && reason.text[0] != '\0');
        for (const char *c = reason.text; *c != '\0'; c++)
            REQUIRE((unsigned char)*c >= ' ' || *c == '\t');
    }
    return 0;
}
