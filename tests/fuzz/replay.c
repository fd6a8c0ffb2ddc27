/* Hands every file of the folders it is given to a fuzzer's entry, without a fuzzer: for compilers that bring none, and
 * for `make coverage`. */
#include <glob.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* False: it cannot be read. */
static int replay(const char *path)
{
    static uint8_t bytes[1 << 17];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return 0;
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    return 1;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char pattern[4096];
        glob_t found;
        snprintf(pattern, sizeof pattern, "%s/*", argv[i]);
        if (glob(pattern, 0, NULL, &found) != 0) {
            fprintf(stderr, "replay: no files in %s\n", argv[i]);
            return 1;
        }
        for (size_t f = 0; f < found.gl_pathc; f++) {
            if (!replay(found.gl_pathv[f])) {
                fprintf(stderr, "replay: cannot read %s\n", found.gl_pathv[f]);
                return 1;
            }
        }
        printf("%s: %zu inputs, all held\n", argv[i], found.gl_pathc);
        globfree(&found);
    }
    return 0;
}
