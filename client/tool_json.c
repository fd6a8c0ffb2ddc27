/* JSON documents: the only file that includes jansson. */
#include "client/tool_json.h"

#include "client/tool_file.h"

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#define DEPTH_MAX 8

struct fc_json {
    json_t *open[DEPTH_MAX]; /* [0] is the document and owned; the rest lie inside it */
    size_t depth;            /* of the innermost open one */
    bool has_failed;
};

fc_json *fc_json_create(void)
{
    fc_json *document = calloc(1, sizeof *document);
    if (document == NULL)
        return NULL;
    document->open[0] = json_object();
    if (document->open[0] == NULL) {
        free(document);
        return NULL;
    }
    return document;
}

void fc_json_destroy(fc_json *document)
{
    if (document == NULL)
        return;
    json_decref(document->open[0]);
    free(document);
}

/* Takes value, NULL included: that is what jansson's constructors return when memory is out. */
static void set(fc_json *document, const char *key, json_t *value)
{
    if (document == NULL) {
        json_decref(value);
        return;
    }
    json_t *into = document->open[document->depth];
    int failed = json_is_array(into) ? json_array_append_new(into, value) : json_object_set_new(into, key, value);
    document->has_failed = document->has_failed || failed != 0;
}

void fc_json_number(fc_json *document, const char *key, double value)
{
    set(document, key, isfinite(value) ? json_real(value) : json_null());
}

void fc_json_uint(fc_json *document, const char *key, uint64_t value)
{
    /* jansson's integers are signed; beyond them a double says it well enough. */
    set(document, key, value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value));
}

void fc_json_text(fc_json *document, const char *key, const char *value)
{
    json_t *text = value != NULL ? json_string(value) : json_null();
    /* Texts of a peer may be no UTF-8, which jansson refuses. */
    set(document, key, text != NULL ? text : json_string("(not UTF-8)"));
}

void fc_json_bool(fc_json *document, const char *key, bool value)
{
    set(document, key, json_boolean(value));
}

static void begin(fc_json *document, const char *key, json_t *inner)
{
    /* Memory may be out: keep the depth balanced, drop what is set inside. */
    json_incref(inner);
    set(document, key, inner);
    json_decref(inner);
    if (document == NULL)
        return;
    assert(document->depth + 1 < DEPTH_MAX);
    document->open[++document->depth] = document->has_failed ? document->open[0] : inner;
}

void fc_json_begin_object(fc_json *document, const char *key)
{
    begin(document, key, json_object());
}

void fc_json_begin_list(fc_json *document, const char *key)
{
    begin(document, key, json_array());
}

void fc_json_end(fc_json *document)
{
    if (document == NULL)
        return;
    assert(document->depth > 0);
    document->depth--;
}

fc_status fc_json_save(const fc_json *document, const char *path, fc_reason *out_reason)
{
    if (document == NULL || document->has_failed)
        return fc_fail(FC_NO_MEMORY, out_reason, "%s: out of memory", path);
    fc_file file;
    fc_status st = fc_file_create(path, &file, out_reason);
    if (st != FC_OK)
        return st;
    /* 10 digits: more than any measurement here has, and 0.1 stays 0.1. */
    int failed = json_dumpf(document->open[0], file.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    if (failed == 0)
        fputc('\n', file.stream);
    if (failed != 0 && !ferror(file.stream)) {
        fc_file_abort(&file);
        return fc_fail(FC_NO_MEMORY, out_reason, "%s: out of memory", path);
    }
    return fc_file_commit(&file, out_reason);
}
