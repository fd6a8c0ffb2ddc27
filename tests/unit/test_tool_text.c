/* client/tool_text and client/tool_json: numbers for people, aligned tables, documents for programs. */
#include "client/tool_json.h"
#include "client/tool_text.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(numbers_read_well)
{
    static const struct {
        double us;
        const char *text;
    } TIMES[] = {{0, "0"},           {0.5, "0.50 us"},  {9.99, "9.99 us"},    {12.34, "12.3 us"},
                 {640, "640 us"},    {999.4, "999 us"}, {999.6, "1.00 ms"},   {12345, "12.3 ms"},
                 {999600, "1.00 s"}, {2.5e6, "2.50 s"}, {-12.34, "-12.3 us"}, {NAN, "-"},
                 {INFINITY, "-"}};
    for (size_t i = 0; i < sizeof TIMES / sizeof TIMES[0]; i++)
        ck_assert_str_eq(fc_text_us(TIMES[i].us).text, TIMES[i].text);
    ck_assert_str_eq(fc_text_count(0).text, "0");
    ck_assert_str_eq(fc_text_count(999).text, "999");
    ck_assert_str_eq(fc_text_count(1000).text, "1,000");
    ck_assert_str_eq(fc_text_count(UINT64_MAX).text, "18,446,744,073,709,551,615");
    ck_assert_str_eq(fc_text_bytes(0).text, "0 B");
    ck_assert_str_eq(fc_text_bytes(1023).text, "1023 B");
    ck_assert_str_eq(fc_text_bytes(1572864).text, "1.50 MiB");
    ck_assert_str_eq(fc_text_bytes(UINT64_MAX).text, "16.0 EiB");
    ck_assert_str_eq(fc_text_rate(12345.6).text, "12,346");
    ck_assert_str_eq(fc_text_rate(3.14159).text, "3.14");
    ck_assert_str_eq(fc_text_rate(0).text, "0.00");
    ck_assert_uint_eq(fc_text_columns("abc"), 3);
    ck_assert_uint_eq(fc_text_columns("\xe2\x96\x88\xc3\xa4"), 2);
}
END_TEST

static char *print_table(const fc_table *table, const char *line)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    fc_table_print(table, line, out);
    fclose(out);
    return text;
}

START_TEST(tables_align)
{
    static fc_table table;
    fc_table_init(&table, "lr");
    fc_table_heading(&table, "name|value");
    fc_table_row(&table, "%s|%d", "a", 12345);
    fc_table_row(&table, "longer|%d", 1);
    fc_table_row(&table, "alone");
    char *text = print_table(&table, "-");
    ck_assert_str_eq(text, "  name    value\n  ------  -----\n  a       12345\n  longer      1\n  alone\n");
    free(text);
    fc_table_init(&table, "lr");
    fc_table_row(&table, "\xe2\x96\x88|1");
    fc_table_row(&table, "ab|1");
    text = print_table(&table, "-");
    ck_assert_str_eq(text, "  \xe2\x96\x88   1\n  ab  1\n");
    free(text);
}
END_TEST

START_TEST(a_table_too_long_or_too_wide_is_cut)
{
    static fc_table table;
    char wide[4 * FC_TABLE_CELL_BYTES];
    memset(wide, 'x', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    fc_table_init(&table, "l");
    for (int i = 0; i < FC_TABLE_ROWS_MAX + 10; i++)
        fc_table_row(&table, "%s", wide);
    char *text = print_table(&table, "-");
    ck_assert_uint_eq(strlen(text), FC_TABLE_ROWS_MAX * (2 + FC_TABLE_CELL_BYTES - 1 + 1));
    free(text);
}
END_TEST

/* --- JSON ------------------------------------------------------------------------------------------------------ */

static json_t *save_and_load(fc_json *document)
{
    char path[] = "/tmp/fc-json-XXXXXX";
    fc_reason reason = {""};
    json_error_t error;
    close(mkstemp(path));
    ck_assert_msg(fc_json_save(document, path, &reason) == FC_OK, "%s", reason.text);
    json_t *loaded = json_load_file(path, 0, &error);
    ck_assert_msg(loaded != NULL, "%s", error.text);
    unlink(path);
    fc_json_destroy(document);
    return loaded;
}

START_TEST(documents_are_json)
{
    fc_json *document = fc_json_create();
    fc_json_number(document, "number", 0.1);
    fc_json_number(document, "nan", NAN);
    fc_json_uint(document, "uint", 1ull << 53);
    fc_json_uint(document, "huge", UINT64_MAX);
    fc_json_text(document, "text", "a \"b\" \\ \n");
    fc_json_text(document, "none", NULL);
    fc_json_text(document, "bytes", "\xff\xfe");
    fc_json_bool(document, "bool", true);
    fc_json_begin_object(document, "object");
    fc_json_begin_list(document, "list");
    fc_json_uint(document, NULL, 1);
    fc_json_begin_object(document, NULL);
    fc_json_uint(document, "inner", 2);
    fc_json_end(document);
    fc_json_end(document);
    fc_json_end(document);
    fc_json_uint(document, "last", 3);
    json_t *root = save_and_load(document);
    ck_assert_double_eq_tol(json_real_value(json_object_get(root, "number")), 0.1, 1e-12);
    ck_assert(json_is_null(json_object_get(root, "nan")));
    ck_assert(json_is_null(json_object_get(root, "none")));
    ck_assert_int_eq(json_integer_value(json_object_get(root, "uint")), 1ll << 53);
    ck_assert_double_eq_tol(json_real_value(json_object_get(root, "huge")), 0x1p64, 1e10);
    ck_assert_str_eq(json_string_value(json_object_get(root, "text")), "a \"b\" \\ \n");
    ck_assert(json_is_string(json_object_get(root, "bytes")));
    ck_assert(json_is_true(json_object_get(root, "bool")));
    json_t *list = json_object_get(json_object_get(root, "object"), "list");
    ck_assert_uint_eq(json_array_size(list), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(list, 1), "inner")), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(root, "last")), 3);
    json_decref(root);
}
END_TEST

START_TEST(a_document_without_memory_is_reported)
{
    fc_reason reason = {""};
    fc_json_number(NULL, "x", 1);
    fc_json_text(NULL, "x", "y");
    fc_json_begin_list(NULL, "x");
    fc_json_end(NULL);
    ck_assert_int_eq(fc_json_save(NULL, "/tmp/never-written", &reason), FC_NO_MEMORY);
    ck_assert_int_ne(access("/tmp/never-written", F_OK), 0);
    fc_json_destroy(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool_text");
    TCase *tests = tcase_create("text");
    tcase_add_test(tests, numbers_read_well);
    tcase_add_test(tests, tables_align);
    tcase_add_test(tests, a_table_too_long_or_too_wide_is_cut);
    tcase_add_test(tests, documents_are_json);
    tcase_add_test(tests, a_document_without_memory_is_reported);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
