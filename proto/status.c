/* Names and texts of the outcomes, expanded from status.def. */
#include "proto/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct status_row {
    const char *name, *text;
    fc_status on_wire;
} status_row;

static const status_row ROWS[FC_STATUS_COUNT] = {
#define FC_WIRE_STATUS(symbol, name, text) [symbol] = {name, text, symbol},
#define FC_LOCAL_STATUS(symbol, name, wire, text) [symbol] = {name, text, wire},
#include "proto/status.def"
#undef FC_WIRE_STATUS
#undef FC_LOCAL_STATUS
};

static bool is_status(fc_status status)
{
    return (unsigned)status < FC_STATUS_COUNT;
}

const char *fc_status_name(fc_status status)
{
    return is_status(status) ? ROWS[status].name : "unknown";
}

const char *fc_status_text(fc_status status)
{
    return is_status(status) ? ROWS[status].text : "unknown";
}

fc_status fc_status_on_wire(fc_status status)
{
    return is_status(status) ? ROWS[status].on_wire : FC_INTERNAL;
}

bool fc_status_from_wire(const char *name, size_t name_bytes, fc_status *out_status)
{
    for (int i = 0; i < FC_STATUS_COUNT; i++) {
        bool is_wire = ROWS[i].on_wire == (fc_status)i;
        if (is_wire && strlen(ROWS[i].name) == name_bytes && memcmp(ROWS[i].name, name, name_bytes) == 0) {
            *out_status = (fc_status)i;
            return true;
        }
    }
    return false;
}

fc_status fc_fail(fc_status status, fc_reason *out_reason, const char *format, ...)
{
    if (out_reason != NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(out_reason->text, sizeof out_reason->text, format, args);
        va_end(args);
    }
    return status;
}
