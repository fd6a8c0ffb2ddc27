/* See notation.h. */
#include "tests/support/notation.h"

#include <check.h>
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct packer {
    const char *line, *at;
    uint8_t *bytes;
    size_t used, capacity;
} packer;

static void put(packer *p, uint64_t value, unsigned byte_count)
{
    ck_assert_msg(p->used + byte_count <= p->capacity, "no room for: %s", p->line);
    for (unsigned i = 0; i < byte_count; i++)
        p->bytes[p->used++] = (uint8_t)(value >> 8 * (byte_count - 1 - i));
}

static void put_tagged(packer *p, uint8_t tag, uint64_t value, unsigned byte_count)
{
    put(p, tag, 1);
    put(p, value, byte_count);
}

static void skip_blanks(packer *p)
{
    while (*p->at == ' ')
        p->at++;
}

static void put_text(packer *p, const char *text, size_t bytes)
{
    if (bytes < 32)
        put(p, 0xa0 | bytes, 1);
    else
        put_tagged(p, 0xda, bytes, 2);
    for (size_t i = 0; i < bytes; i++)
        put(p, (uint8_t)text[i], 1);
}

static void put_integer(packer *p, uint64_t value, int is_negative)
{
    if (is_negative && value <= 32)
        put(p, (uint8_t) - (int8_t)value, 1);
    else if (is_negative)
        put_tagged(p, 0xd3, -value, 8);
    else if (value < 128)
        put(p, value, 1);
    else if (value <= UINT32_MAX)
        put_tagged(p, 0xce, value, 4);
    else
        put_tagged(p, 0xcf, value, 8);
}

static void put_float(packer *p, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_tagged(p, 0xcb, bits, 8);
}

/* nan, inf, nil, true, false, b32 or a number. */
static void pack_word(packer *p)
{
    size_t length = strcspn(p->at, " ]}:");
    char word[64];
    ck_assert_msg(length > 0 && length < sizeof word, "cannot read \"%s\" in: %s", p->at, p->line);
    memcpy(word, p->at, length);
    word[length] = '\0';
    p->at += length;
    if (strcmp(word, "nil") == 0)
        put(p, 0xc0, 1);
    else if (strcmp(word, "false") == 0)
        put(p, 0xc2, 1);
    else if (strcmp(word, "true") == 0)
        put(p, 0xc3, 1);
    else if (strcmp(word, "nan") == 0)
        put_float(p, NAN);
    else if (strcmp(word, "inf") == 0)
        put_float(p, INFINITY);
    else if (word[0] == 'b' && isdigit((unsigned char)word[1])) {
        size_t bytes = strtoul(word + 1, NULL, 10);
        put_tagged(p, 0xc6, bytes, 4);
        for (size_t i = 0; i < bytes; i++)
            put(p, 0, 1);
    } else if (strchr(word, '.') != NULL)
        put_float(p, strtod(word, NULL));
    else
        put_integer(p, strtoull(word + (word[0] == '-'), NULL, 10), word[0] == '-');
}

static void pack_hex(packer *p)
{
    for (p->at++; *p->at != '>'; skip_blanks(p)) {
        char pair[3] = {p->at[0], p->at[1], '\0'};
        ck_assert_msg(isxdigit((unsigned char)pair[0]) && isxdigit((unsigned char)pair[1]), "bad hex in: %s", p->line);
        put(p, strtoul(pair, NULL, 16), 1);
        p->at += 2;
    }
    p->at++;
}

static void pack_value(packer *p);

static void pack_container(packer *p, char end)
{
    size_t count_at = p->used + 1, count = 0;
    unsigned long stated = ULONG_MAX;
    put_tagged(p, end == '}' ? 0xde : 0xdc, 0, 2);
    p->at++;
    if (*p->at == '*')
        stated = strtoul(p->at + 1, (char **)&p->at, 10);
    for (skip_blanks(p); *p->at != end; skip_blanks(p), count++) {
        if (end == '}' && *p->at != '<') {
            size_t key = strcspn(p->at, ":");
            put_text(p, p->at, key);
            p->at += key + 1;
        }
        pack_value(p);
    }
    p->at++;
    count = stated != ULONG_MAX ? stated : count;
    p->bytes[count_at] = (uint8_t)(count >> 8);
    p->bytes[count_at + 1] = (uint8_t)count;
}

static void pack_value(packer *p)
{
    skip_blanks(p);
    switch (*p->at) {
    case '{':
        pack_container(p, '}');
        return;
    case '[':
        pack_container(p, ']');
        return;
    case '<':
        pack_hex(p);
        return;
    case '\'': {
        size_t bytes = strcspn(p->at + 1, "'");
        put_text(p, p->at + 1, bytes);
        p->at += bytes + 2;
        return;
    }
    default:
        pack_word(p);
    }
}

size_t fc_notation_pack(const char *line, uint8_t *out_bytes, size_t capacity)
{
    packer p = {.line = line, .at = line, .bytes = out_bytes, .capacity = capacity};
    for (skip_blanks(&p); *p.at != '\0'; skip_blanks(&p))
        pack_value(&p);
    return p.used;
}
