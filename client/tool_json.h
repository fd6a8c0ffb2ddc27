/* JSON documents for the tools, a thin cover over jansson (which no other file includes). Building never fails half
 * way: out of memory is remembered and reported when the document is written. One thread a document.
 */
#ifndef FC_CLIENT_TOOL_JSON_H
#define FC_CLIENT_TOOL_JSON_H

#include "proto/status.h"

#include <stdint.h>

typedef struct fc_json fc_json;

/* A new, empty top-level object, keys in the order they are set. NULL: out of memory; every call below takes NULL and
 * does nothing. The caller destroys it. */
fc_json *fc_json_create(void);
void fc_json_destroy(fc_json *document);

/* Set a key of the object or the list element that is open. A number that is not finite becomes null; a NULL text too.
 */
void fc_json_number(fc_json *document, const char *key, double value);
void fc_json_uint(fc_json *document, const char *key, uint64_t value);
void fc_json_text(fc_json *document, const char *key, const char *value);
void fc_json_bool(fc_json *document, const char *key, bool value);

/* What is set after begin goes into a new object (or list: then keys are ignored) under key, until end. Eight deep at
 * most. */
void fc_json_begin_object(fc_json *document, const char *key);
void fc_json_begin_list(fc_json *document, const char *key);
void fc_json_end(fc_json *document);

/* Writes it to path ("-": standard output), whole or not at all. FC_NO_MEMORY, FC_IO. */
fc_status fc_json_save(const fc_json *document, const char *path, fc_reason *out_reason);

#endif
