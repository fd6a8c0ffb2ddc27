/* NumPy's .npy files. A file is: "\x93NUMPY", two version bytes, the header's length (2 bytes in version 1, 4 later),
 * the header (a Python dict literal: descr, fortran_order, shape, padded with blanks and a newline), the elements.
 */
#include "client/tool_npy.h"

#include "client/tool_file.h"
#include "proto/plain_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char MAGIC[6] = "\x93NUMPY";
/* A header of ours is below 200 bytes, numpy itself refuses beyond 10,000. */
#define HEADER_BYTES_MAX 65536
#define PREFIX_BYTES_MAX 12
#define ALIGNMENT 64 /* what numpy aligns the elements to */

/* --- the dict literal ------------------------------------------------------------------------------------------ */

/* Where the parser stands in the header's text. Every read checks `end`. */
typedef struct cursor {
    const char *at, *end;
} cursor;

typedef struct dict {
    char descr[16];
    bool is_fortran;
    uint32_t rank;
    uint64_t shape[FC_NPY_RANK_MAX];
} dict;

static void skip_blanks(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static bool take(cursor *c, char wanted)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool take_word(cursor *c, const char *word)
{
    size_t bytes = strlen(word);
    skip_blanks(c);
    if ((size_t)(c->end - c->at) < bytes || memcmp(c->at, word, bytes) != 0)
        return false;
    c->at += bytes;
    return true;
}

/* A quoted string without escapes, cut to fit. */
static bool take_string(cursor *c, char *out, size_t out_bytes)
{
    char quote = '\0';
    if (take(c, '\''))
        quote = '\'';
    else if (take(c, '"'))
        quote = '"';
    else
        return false;
    const char *begin = c->at;
    while (c->at < c->end && *c->at != quote && *c->at >= ' ' && *c->at <= '~' && *c->at != '\\')
        c->at++;
    if (c->at == c->end || *c->at != quote)
        return false;
    snprintf(out, out_bytes, "%.*s", (int)(c->at - begin), begin);
    c->at++;
    return true;
}

static bool take_uint(cursor *c, uint64_t *out_value)
{
    skip_blanks(c);
    const char *begin = c->at;
    uint64_t value = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (__builtin_mul_overflow(value, 10u, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*c->at - '0'), &value))
            return false;
    }
    if (c->at == begin)
        return false;
    (void)(c->at < c->end && *c->at == 'L' && c->at++); /* Python 2 wrote long integers so */
    *out_value = value;
    return true;
}

static fc_status read_shape(cursor *c, dict *out, fc_reason *out_reason)
{
    bool needs_comma = false;
    if (!take(c, '('))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header's shape is not a tuple");
    while (!take(c, ')')) {
        if (needs_comma && !take(c, ','))
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header's shape is not a tuple of integers");
        if (needs_comma && take(c, ')'))
            break;
        if (out->rank == FC_NPY_RANK_MAX)
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "more than %d dimensions", FC_NPY_RANK_MAX);
        if (!take_uint(c, &out->shape[out->rank]))
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header's shape is not a tuple of integers");
        out->rank++;
        needs_comma = true;
    }
    return FC_OK;
}

enum { SEEN_DESCR = 1, SEEN_ORDER = 2, SEEN_SHAPE = 4 };

static fc_status read_entry(cursor *c, dict *out, unsigned *seen, fc_reason *out_reason)
{
    char key[24];
    unsigned bit = 0;
    fc_status st = FC_OK;
    if (!take_string(c, key, sizeof key) || !take(c, ':'))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header is not a Python dict");
    if (strcmp(key, "descr") == 0) {
        bit = SEEN_DESCR;
        if (!take_string(c, out->descr, sizeof out->descr))
            st = fc_fail(FC_INVALID_ARGUMENT, out_reason,
                         "a structured dtype; expected float16 ('<f2') or float32 ('<f4')");
    } else if (strcmp(key, "fortran_order") == 0) {
        bit = SEEN_ORDER;
        out->is_fortran = take_word(c, "True");
        if (!out->is_fortran && !take_word(c, "False"))
            st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header's fortran_order is neither True nor False");
    } else if (strcmp(key, "shape") == 0) {
        bit = SEEN_SHAPE;
        st = (*seen & bit) != 0 ? FC_OK : read_shape(c, out, out_reason);
    } else {
        st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header has an unknown key '%s'", key);
    }
    if (st == FC_OK && (*seen & bit) != 0)
        st = fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header has the key '%s' twice", key);
    *seen |= bit;
    return st;
}

static fc_status read_dict(const char *text, size_t text_bytes, dict *out, fc_reason *out_reason)
{
    cursor c = {text, text + text_bytes};
    unsigned seen = 0;
    if (!take(&c, '{'))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header is not a Python dict");
    while (!take(&c, '}')) {
        fc_status st = read_entry(&c, out, &seen, out_reason);
        if (st != FC_OK)
            return st;
        if (!take(&c, ',')) {
            if (take(&c, '}'))
                break;
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header is not a Python dict");
        }
    }
    skip_blanks(&c);
    if (c.at != c.end)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header goes on after its dict");
    if (seen != (SEEN_DESCR | SEEN_ORDER | SEEN_SHAPE))
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "the header lacks '%s'",
                       (seen & SEEN_DESCR) == 0   ? "descr"
                       : (seen & SEEN_ORDER) == 0 ? "fortran_order"
                                                  : "shape");
    return FC_OK;
}

/* --- the whole header ------------------------------------------------------------------------------------------ */

static fc_status find_header(const uint8_t *bytes, size_t bytes_count, size_t *out_offset, size_t *out_bytes,
                             fc_reason *out_reason)
{
    if (bytes_count < 8 || memcmp(bytes, MAGIC, sizeof MAGIC) != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "not a .npy file (no \\x93NUMPY at its start)");
    if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "format version %u.%u; expected 1.0, 2.0 or 3.0", bytes[6],
                       bytes[7]);
    size_t offset = bytes[6] == 1 ? 10 : 12;
    if (bytes_count < offset)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "cut off in its header");
    size_t length = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] != 1)
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (length > HEADER_BYTES_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "its header claims %zu bytes; at most %d are sensible", length,
                       HEADER_BYTES_MAX);
    if (length > bytes_count - offset)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "cut off in its header");
    *out_offset = offset;
    *out_bytes = length;
    return FC_OK;
}

static fc_status check_dtype(const char *descr, fc_dtype *out_dtype, fc_reason *out_reason)
{
    static const struct {
        const char *descr, *name;
    } KNOWN[] = {
        {"<f8", "float64"},
        {"<i8", "int64"},
        {"<i4", "int32"},
        {"|u1", "uint8"},
        {"|b1", "bool"},
        {"<c8", "complex64"},
        {">f2", "big-endian float16"},
        {">f4", "big-endian float32"},
        {">f8", "big-endian float64"},
        {"<V2", "2-byte void: bfloat16?"},
    };
    if (strcmp(descr, "<f2") == 0 || strcmp(descr, "<f4") == 0) {
        *out_dtype = descr[2] == '2' ? FC_F16 : FC_F32;
        return FC_OK;
    }
    const char *name = "another type";
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        if (strcmp(KNOWN[i].descr, descr) == 0)
            name = KNOWN[i].name;
    }
    return fc_fail(FC_INVALID_ARGUMENT, out_reason, "dtype '%s' (%s); expected float16 ('<f2') or float32 ('<f4')",
                   descr, name);
}

fc_status fc_npy_parse(const void *bytes, size_t bytes_count, uint64_t file_bytes, fc_npy_header *out_header,
                       fc_reason *out_reason)
{
    size_t offset = 0, length = 0;
    dict d = {0};
    fc_npy_header header = {0};
    fc_status st = find_header(bytes, bytes_count, &offset, &length, out_reason);
    if (st == FC_OK)
        st = read_dict((const char *)bytes + offset, length, &d, out_reason);
    if (st == FC_OK)
        st = check_dtype(d.descr, &header.dtype, out_reason);
    if (st != FC_OK)
        return st;
    if (d.is_fortran && d.rank > 1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason,
                       "Fortran order; expected C order (save numpy.ascontiguousarray(x))");
    /* An empty array may have huge other dimensions: bound them all as if there were one element. */
    size_t data_bytes = fc_dtype_bytes(header.dtype), bound = data_bytes;
    for (uint32_t i = 0; i < d.rank; i++) {
        header.shape[i] = d.shape[i];
        data_bytes *= d.shape[i];
        if (__builtin_mul_overflow(bound, d.shape[i] == 0 ? 1 : d.shape[i], &bound))
            return fc_fail(FC_INVALID_ARGUMENT, out_reason, "its shape overflows");
    }
    header.rank = d.rank;
    header.data_offset = offset + length;
    header.data_bytes = data_bytes;
    uint64_t left = file_bytes > header.data_offset ? file_bytes - header.data_offset : 0;
    if (left != data_bytes)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "its shape asks for %zu bytes of elements, the file holds %llu",
                       data_bytes, (unsigned long long)left);
    *out_header = header;
    return FC_OK;
}

/* --- files ----------------------------------------------------------------------------------------------------- */

/* Up to `wanted` bytes; fewer at the end of the file. -1: errno says why. */
static ssize_t read_fully(int fd, void *buffer, size_t wanted)
{
    size_t done = 0;
    while (done < wanted) {
        ssize_t got = read(fd, (char *)buffer + done, wanted - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static fc_status load_header(int fd, fc_npy_header *out_header, fc_reason *out_reason)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return fc_fail(FC_IO, out_reason, "%s", strerror(errno));
    char *head = malloc(PREFIX_BYTES_MAX + HEADER_BYTES_MAX);
    if (head == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory");
    fc_status st = FC_OK;
    ssize_t got = read_fully(fd, head, PREFIX_BYTES_MAX + HEADER_BYTES_MAX);
    if (got < 0)
        st = fc_fail(FC_IO, out_reason, "%s", strerror(errno));
    else
        st = fc_npy_parse(head, (size_t)got, (uint64_t)info.st_size, out_header, out_reason);
    free(head);
    return st;
}

static fc_status load_data(int fd, const fc_npy_header *header, void **out_data, fc_reason *out_reason)
{
    /* data_bytes was checked against the file's size, so this asks for no more than the file holds. */
    void *data = malloc(header->data_bytes != 0 ? header->data_bytes : 1);
    if (data == NULL)
        return fc_fail(FC_NO_MEMORY, out_reason, "out of memory (%zu bytes)", header->data_bytes);
    ssize_t got = -1;
    if (lseek(fd, (off_t)header->data_offset, SEEK_SET) >= 0)
        got = read_fully(fd, data, header->data_bytes);
    if (got < 0 || (size_t)got != header->data_bytes) {
        free(data);
        return fc_fail(FC_IO, out_reason, "%s", got < 0 ? strerror(errno) : "became shorter while it was read");
    }
    *out_data = data;
    return FC_OK;
}

fc_status fc_npy_load(const char *path, fc_npy *out_npy, fc_reason *out_reason)
{
    fc_reason why = {""};
    fc_npy npy = {.data = NULL};
    FILE *file = NULL;
    fc_status st = fc_plain_file_open(path, &file, &why);
    if (st == FC_OK)
        st = load_header(fileno(file), &npy.header, &why);
    if (st == FC_OK)
        st = load_data(fileno(file), &npy.header, &npy.data, &why);
    if (file != NULL)
        fclose(file);
    if (st != FC_OK)
        return fc_fail(st, out_reason, "%s: %s", path, why.text);
    *out_npy = npy;
    return FC_OK;
}

void fc_npy_shape_text(uint32_t rank, const uint64_t *shape, char *out, size_t out_bytes)
{
    size_t used = (size_t)snprintf(out, out_bytes, "(");
    for (uint32_t i = 0; i < rank && used < out_bytes; i++)
        used +=
            (size_t)snprintf(out + used, out_bytes - used, "%s%llu", i == 0 ? "" : ", ", (unsigned long long)shape[i]);
    if (used < out_bytes)
        snprintf(out + used, out_bytes - used, rank == 1 ? ",)" : ")");
}

fc_status fc_npy_save(const char *path, fc_dtype dtype, uint32_t rank, const uint64_t *shape, const void *data,
                      fc_reason *out_reason)
{
    char shape_text[24 * FC_NPY_RANK_MAX], header[64 + sizeof shape_text + ALIGNMENT];
    fc_npy_shape_text(rank, shape, shape_text, sizeof shape_text);
    int text = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                        dtype == FC_F16 ? "<f2" : "<f4", shape_text);
    size_t total = (10 + (size_t)text + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t length = total - 10;
    memset(header + text, ' ', length - (size_t)text - 1);
    header[length - 1] = '\n';

    size_t data_bytes = fc_dtype_bytes(dtype);
    for (uint32_t i = 0; i < rank; i++)
        data_bytes *= shape[i];
    fc_file file;
    fc_status st = fc_file_create(path, &file, out_reason);
    if (st != FC_OK)
        return st;
    const uint8_t prefix[4] = {1, 0, (uint8_t)(length & 0xff), (uint8_t)(length >> 8)};
    fc_file_write(&file, MAGIC, sizeof MAGIC);
    fc_file_write(&file, prefix, sizeof prefix);
    fc_file_write(&file, header, length);
    fc_file_write(&file, data, data_bytes);
    return fc_file_commit(&file, out_reason);
}
