/* client/tool_npy and client/tool_file: what we write is read back, numpy's own headers are understood, hostile ones
 * are refused with a reason, and a failed write leaves nothing behind.
 */
#include "client/tool_file.h"
#include "client/tool_npy.h"

#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file: prefix, header text, and as many zero bytes as wanted. Exactly sized, so that ASan sees every read beyond. */
static uint8_t *build(uint8_t major, const char *text, size_t data_bytes, size_t *out_bytes)
{
    size_t length = strlen(text), offset = major == 1 ? 10 : 12;
    uint8_t *bytes = calloc(1, offset + length + data_bytes);
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = major;
    bytes[8] = (uint8_t)length;
    bytes[9] = (uint8_t)(length >> 8);
    memcpy(bytes + offset, text, length);
    *out_bytes = offset + length + data_bytes;
    return bytes;
}

#define HEADER(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"

static const struct {
    const char *name, *text;
    uint8_t major;
    size_t data_bytes;
    fc_dtype dtype;
    uint32_t rank;
    uint64_t last; /* last entry of the shape */
} GOOD[] = {
    {"numpy's own", HEADER("'<f2'", "False", "(1, 2, 3, 8)") "      \n", 1, 96, FC_F16, 4, 8},
    {"float32", HEADER("'<f4'", "False", "(2, 8)"), 1, 64, FC_F32, 2, 8},
    {"version 2", HEADER("'<f4'", "False", "(2, 8)"), 2, 64, FC_F32, 2, 8},
    {"version 3", HEADER("'<f4'", "False", "(2, 8)"), 3, 64, FC_F32, 2, 8},
    {"one dimension", HEADER("'<f4'", "False", "(7,)"), 1, 28, FC_F32, 1, 7},
    {"no dimension", HEADER("'<f4'", "False", "()"), 1, 4, FC_F32, 0, 0},
    {"empty array", HEADER("'<f4'", "False", "(3, 0)"), 1, 0, FC_F32, 2, 0},
    {"one dimension in Fortran order is C order too", HEADER("'<f4'", "True", "(7,)"), 1, 28, FC_F32, 1, 7},
    {"other order of keys", "{'shape': (4,), 'descr': '<f4', 'fortran_order': False}", 1, 16, FC_F32, 1, 4},
    {"double quotes and blanks", "{ \"descr\" : \"<f4\" , \"fortran_order\":False,\"shape\":( 2 ,2 ) }", 1, 16, FC_F32,
     2, 2},
    {"Python 2's long integers", HEADER("'<f4'", "False", "(2L, 4L)"), 1, 32, FC_F32, 2, 4},
    {"trailing comma in the shape", HEADER("'<f4'", "False", "(2, 4,)"), 1, 32, FC_F32, 2, 4},
};

START_TEST(good_headers_are_read)
{
    size_t bytes_count;
    fc_npy_header header;
    fc_reason reason = {""};
    uint8_t *bytes = build(GOOD[_i].major, GOOD[_i].text, GOOD[_i].data_bytes, &bytes_count);
    fc_status st = fc_npy_parse(bytes, bytes_count, bytes_count, &header, &reason);
    ck_assert_msg(st == FC_OK, "%s: %s", GOOD[_i].name, reason.text);
    ck_assert_int_eq(header.dtype, GOOD[_i].dtype);
    ck_assert_uint_eq(header.rank, GOOD[_i].rank);
    if (header.rank > 0)
        ck_assert_uint_eq(header.shape[header.rank - 1], GOOD[_i].last);
    ck_assert_uint_eq(header.data_bytes, GOOD[_i].data_bytes);
    ck_assert_uint_eq(header.data_offset + header.data_bytes, bytes_count);
    /* Any cut of it is refused, and nothing beyond the cut is read. */
    for (size_t cut = 0; cut < bytes_count; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        uint8_t *exact = realloc(part, cut > 0 ? cut : 1);
        ck_assert_int_ne(fc_npy_parse(exact, cut, cut, &header, &reason), FC_OK);
        free(exact);
    }
    free(bytes);
}
END_TEST

static const struct {
    const char *name, *text;
    size_t data_bytes;
    const char *reason; /* a part of what it must say */
} BAD[] = {
    {"float64", HEADER("'<f8'", "False", "(2,)"), 16, "float64"},
    {"big-endian", HEADER("'>f4'", "False", "(2,)"), 8, "big-endian"},
    {"integers", HEADER("'<i4'", "False", "(2,)"), 8, "float16 ('<f2')"},
    {"structured", HEADER("[('a', '<f4')]", "False", "(2,)"), 8, "structured"},
    {"unknown type", HEADER("'<Q9'", "False", "(2,)"), 8, "another type"},
    {"Fortran order", HEADER("'<f4'", "True", "(2, 2)"), 16, "Fortran"},
    {"order is a number", HEADER("'<f4'", "1", "(2,)"), 8, "fortran_order"},
    {"too few elements", HEADER("'<f4'", "False", "(3,)"), 8, "12 bytes"},
    {"too many elements", HEADER("'<f4'", "False", "(1,)"), 8, "4 bytes"},
    {"product overflows", HEADER("'<f4'", "False", "(4294967296, 4294967296, 4)"), 0, "overflow"},
    {"product overflows to 0", HEADER("'<f4'", "False", "(9223372036854775808, 2)"), 0, "overflow"},
    {"overflow behind a zero", HEADER("'<f4'", "False", "(0, 9223372036854775808, 9223372036854775808)"), 0,
     "overflow"},
    {"number beyond 64 bits", HEADER("'<f4'", "False", "(99999999999999999999999,)"), 0, "integers"},
    {"negative", HEADER("'<f4'", "False", "(-1,)"), 0, "integers"},
    {"float", HEADER("'<f4'", "False", "(1.5,)"), 0, "integers"},
    {"shape is no tuple", HEADER("'<f4'", "False", "[2]"), 8, "tuple"},
    {"nine dimensions", HEADER("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), 4, "dimensions"},
    {"two commas", HEADER("'<f4'", "False", "(1,,1)"), 4, "integers"},
    {"no comma between", HEADER("'<f4'", "False", "(1 1)"), 4, "integers"},
    {"no shape", "{'descr': '<f4', 'fortran_order': False}", 4, "lacks 'shape'"},
    {"no descr", "{'shape': (1,), 'fortran_order': False}", 4, "lacks 'descr'"},
    {"no order", "{'shape': (1,), 'descr': '<f4'}", 4, "lacks 'fortran_order'"},
    {"key twice", "{'shape': (1,), 'shape': (1,), 'descr': '<f4', 'fortran_order': False}", 4, "twice"},
    {"unknown key", "{'shape': (1,), 'x': 1}", 4, "unknown key"},
    {"more after it", HEADER("'<f4'", "False", "(1,)") " import os", 4, "goes on"},
    {"no dict", "[1]", 4, "dict"},
    {"nothing", "", 4, "dict"},
    {"never ends", "{", 4, "dict"},
    {"string never ends", "{'descr", 4, "dict"},
    {"escape in a string", "{'de\\x73cr': 1}", 4, "dict"},
    {"control byte in a string", "{'de\x01scr': 1}", 4, "dict"},
    {"no colon", "{'descr' '<f4'}", 4, "dict"},
    {"long descr", HEADER("'<f4aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'", "False", "(1,)"), 4, "dtype"},
};

START_TEST(bad_headers_are_refused_with_a_reason)
{
    size_t bytes_count;
    fc_npy_header header;
    fc_reason reason = {""};
    uint8_t *bytes = build(1, BAD[_i].text, BAD[_i].data_bytes, &bytes_count);
    fc_status st = fc_npy_parse(bytes, bytes_count, bytes_count, &header, &reason);
    ck_assert_msg(st == FC_INVALID_ARGUMENT, "%s: accepted", BAD[_i].name);
    ck_assert_msg(strstr(reason.text, BAD[_i].reason) != NULL, "%s: \"%s\" does not say \"%s\"", BAD[_i].name,
                  reason.text, BAD[_i].reason);
    free(bytes);
}
END_TEST

START_TEST(bad_prefixes_are_refused)
{
    static const struct {
        const char *name;
        uint8_t bytes[12];
        size_t count;
    } PREFIXES[] = {
        {"empty", {0}, 0},
        {"text", "hello, world", 12},
        {"zip", {'P', 'K', 3, 4, 0, 0, 0, 0, 0, 0, 0, 0}, 12},
        {"version 0", {0x93, 'N', 'U', 'M', 'P', 'Y', 0, 0, 2, 0, '{', '}'}, 12},
        {"version 4", {0x93, 'N', 'U', 'M', 'P', 'Y', 4, 0, 2, 0, 0, 0}, 12},
        {"version 1.1", {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 1, 2, 0, '{', '}'}, 12},
        {"no length", {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 2}, 9},
        {"4 GiB of header", {0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, 0xff, 0xff, 0xff, 0xff}, 12},
        {"more header than file", {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 3, 0, '{', '}'}, 12},
    };
    for (size_t i = 0; i < sizeof PREFIXES / sizeof PREFIXES[0]; i++) {
        fc_npy_header header;
        fc_reason reason = {""};
        uint8_t *exact = malloc(PREFIXES[i].count + (PREFIXES[i].count == 0));
        memcpy(exact, PREFIXES[i].bytes, PREFIXES[i].count);
        ck_assert_msg(fc_npy_parse(exact, PREFIXES[i].count, PREFIXES[i].count, &header, &reason) ==
                          FC_INVALID_ARGUMENT,
                      "%s", PREFIXES[i].name);
        ck_assert_str_ne(reason.text, "");
        free(exact);
    }
}
END_TEST

/* --- files ----------------------------------------------------------------------------------------------------- */

static char directory[64];

static const char *in_directory(const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void make_directory(void)
{
    strcpy(directory, "/tmp/fc-npy-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

/* Files in the directory, all removed. */
static int clear_directory(void)
{
    int count = 0;
    DIR *dir = opendir(directory);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        unlink(in_directory(entry->d_name));
        count++;
    }
    closedir(dir);
    return count;
}

static void remove_directory(void)
{
    clear_directory();
    rmdir(directory);
}

START_TEST(what_is_saved_is_loaded)
{
    static const uint64_t SHAPES[][4] = {{1, 2, 3, 4}, {24, 1, 1, 1}, {0, 3, 4, 8}};
    static const uint32_t RANKS[] = {4, 1, 4};
    float data[24];
    for (int i = 0; i < 24; i++)
        data[i] = (float)i / 3;
    for (size_t i = 0; i < 3; i++) {
        fc_npy npy;
        fc_reason reason = {""};
        ck_assert_int_eq(fc_npy_save(in_directory("a.npy"), FC_F32, RANKS[i], SHAPES[i], data, &reason), FC_OK);
        ck_assert_msg(fc_npy_load(in_directory("a.npy"), &npy, &reason) == FC_OK, "%s", reason.text);
        ck_assert_int_eq(npy.header.dtype, FC_F32);
        ck_assert_uint_eq(npy.header.rank, RANKS[i]);
        ck_assert_mem_eq(npy.header.shape, SHAPES[i], RANKS[i] * sizeof(uint64_t));
        ck_assert_mem_eq(npy.data, data, npy.header.data_bytes);
        ck_assert_uint_eq(npy.header.data_offset % 64, 0);
        free(npy.data);
    }
    ck_assert_int_eq(clear_directory(), 1);
}
END_TEST

START_TEST(files_that_cannot_be_read_say_why)
{
    fc_npy npy;
    fc_reason reason = {""};
    ck_assert_int_eq(fc_npy_load(in_directory("none.npy"), &npy, &reason), FC_IO);
    ck_assert_ptr_nonnull(strstr(reason.text, "none.npy: No such file"));
    ck_assert_int_eq(fc_npy_load(directory, &npy, &reason), FC_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(reason.text, "regular"));
    ck_assert_int_eq(mkfifo(in_directory("fifo"), 0600), 0);
    ck_assert_int_eq(fc_npy_load(in_directory("fifo"), &npy, &reason), FC_INVALID_ARGUMENT);
}
END_TEST

START_TEST(a_failed_write_leaves_the_old_file)
{
    static const uint64_t SHAPE[4] = {1, 1, 1, 65536};
    static float data[65536];
    const uint64_t small[1] = {2};
    fc_npy npy;
    fc_reason reason = {""};
    ck_assert_int_eq(fc_npy_save(in_directory("a.npy"), FC_F32, 1, small, data, &reason), FC_OK);
    /* As on a full disk, but without one: no file may grow beyond 64 KiB here. */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){65536, 65536});
    ck_assert_int_eq(fc_npy_save(in_directory("a.npy"), FC_F32, 4, SHAPE, data, &reason), FC_IO);
    ck_assert_ptr_nonnull(strstr(reason.text, "File too large"));
    ck_assert_int_eq(fc_npy_load(in_directory("a.npy"), &npy, &reason), FC_OK);
    ck_assert_uint_eq(npy.header.data_bytes, 8);
    free(npy.data);
    ck_assert_int_eq(clear_directory(), 1);
}
END_TEST

START_TEST(unwritable_places_are_refused_at_once)
{
    fc_file file;
    fc_reason reason = {""};
    ck_assert_int_eq(fc_file_create(in_directory("no/such/place"), &file, &reason), FC_IO);
    ck_assert_ptr_nonnull(strstr(reason.text, "no/such/place"));
    ck_assert_int_eq(fc_file_create("/dev/full", &file, &reason), FC_OK); /* a device: written, never renamed over */
    fprintf(file.stream, "x");
    ck_assert_int_eq(fc_file_commit(&file, &reason), FC_IO);
    ck_assert_ptr_nonnull(strstr(reason.text, "No space left"));
    struct stat info;
    ck_assert_int_eq(stat("/dev/full", &info), 0);
    ck_assert(S_ISCHR(info.st_mode));
}
END_TEST

START_TEST(aborting_leaves_nothing_and_links_are_followed)
{
    fc_file file;
    fc_reason reason = {""};
    struct stat info;
    char link_path[400];
    ck_assert_int_eq(fc_file_create(in_directory("b"), &file, &reason), FC_OK);
    fc_file_abort(&file);
    ck_assert_int_eq(clear_directory(), 0);
    ck_assert_int_eq(fc_file_create(in_directory("target"), &file, &reason), FC_OK);
    ck_assert_int_eq(fc_file_commit(&file, &reason), FC_OK);
    strcpy(link_path, in_directory("link"));
    ck_assert_int_eq(symlink(in_directory("target"), link_path), 0);
    ck_assert_int_eq(fc_file_create(link_path, &file, &reason), FC_OK);
    fprintf(file.stream, "hello");
    ck_assert_int_eq(fc_file_commit(&file, &reason), FC_OK);
    ck_assert_int_eq(lstat(link_path, &info), 0);
    ck_assert(S_ISLNK(info.st_mode));
    ck_assert_int_eq(stat(in_directory("target"), &info), 0);
    ck_assert_int_eq(info.st_size, 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool_npy");
    TCase *headers = tcase_create("headers");
    tcase_add_loop_test(headers, good_headers_are_read, 0, sizeof GOOD / sizeof GOOD[0]);
    tcase_add_loop_test(headers, bad_headers_are_refused_with_a_reason, 0, sizeof BAD / sizeof BAD[0]);
    tcase_add_test(headers, bad_prefixes_are_refused);
    suite_add_tcase(suite, headers);
    TCase *files = tcase_create("files");
    tcase_add_checked_fixture(files, make_directory, remove_directory);
    tcase_add_test(files, what_is_saved_is_loaded);
    tcase_add_test(files, files_that_cannot_be_read_say_why);
    tcase_add_test(files, a_failed_write_leaves_the_old_file);
    tcase_add_test(files, unwritable_places_are_refused_at_once);
    tcase_add_test(files, aborting_leaves_nothing_and_links_are_followed);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
