/* See golden.h. */
#include "tests/support/golden.h"

#include <check.h>
#include <ctype.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *fc_golden_read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "cannot read %s: tests run in the repository's root", path);
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    ck_assert_int_ge(size, 0);
    rewind(file);
    char *text = malloc((size_t)size + 1);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(fread(text, 1, (size_t)size, file), (size_t)size);
    text[size] = '\0';
    fclose(file);
    return text;
}

size_t fc_golden_parse(const char *block, size_t block_bytes, uint8_t *out_bytes, size_t capacity)
{
    size_t used = 0;
    bool is_comment = false;
    for (const char *at = block, *end = block + block_bytes; at < end; at++) {
        is_comment = *at != '\n' && (is_comment || *at == ';' || *at == '#');
        if (is_comment || isspace((unsigned char)*at))
            continue;
        char pair[3] = {at[0], at + 1 < end ? at[1] : '\0', '\0'};
        ck_assert_msg(isxdigit((unsigned char)pair[0]) && isxdigit((unsigned char)pair[1]), "no hex: %.20s", at);
        ck_assert_uint_lt(used, capacity);
        out_bytes[used++] = (uint8_t)strtoul(pair, NULL, 16);
        at++;
    }
    return used;
}

void fc_golden_load(const char *name, fc_golden *out_golden)
{
    char path[128];
    snprintf(path, sizeof path, "tests/golden/%s.hex", name);
    char *text = fc_golden_read_file(path);
    snprintf(out_golden->name, sizeof out_golden->name, "%s", name);
    out_golden->size = fc_golden_parse(text, strlen(text), out_golden->bytes, sizeof out_golden->bytes);
    free(text);
}

size_t fc_golden_load_all(fc_golden out_goldens[FC_GOLDEN_MAX])
{
    glob_t found;
    size_t count = 0;
    ck_assert_msg(glob("tests/golden/*.hex", 0, NULL, &found) == 0, "no tests/golden/*.hex here");
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char name[64];
        ck_assert_int_eq(sscanf(found.gl_pathv[i], "tests/golden/%63[^.]", name), 1);
        if (strncmp(name, "wire-", 5) == 0)
            continue;
        ck_assert_uint_lt(count, FC_GOLDEN_MAX);
        fc_golden_load(name, &out_goldens[count++]);
    }
    globfree(&found);
    return count;
}

bool fc_golden_is_request(const fc_golden *golden)
{
    return strstr(golden->name, "-request") != NULL;
}
