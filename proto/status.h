/* Outcomes shared by every layer, and the reason text that goes with a failure.
 *
 * Pure values: no state, any thread.
 */
#ifndef FC_PROTO_STATUS_H
#define FC_PROTO_STATUS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum fc_status {
#define FC_WIRE_STATUS(symbol, name, text) symbol,
#define FC_LOCAL_STATUS(symbol, name, wire, text) symbol,
#include "proto/status.def"
#undef FC_WIRE_STATUS
#undef FC_LOCAL_STATUS
    FC_STATUS_COUNT
} fc_status;

/* Why something failed, in one line for a person: names what is wrong and what would be right. Never holds addresses,
 * paths or other insides of the server when it goes to a peer. */
#define FC_REASON_BYTES 240
typedef struct fc_reason {
    char text[FC_REASON_BYTES];
} fc_reason;

/* The name, as on the wire for wire statuses; "unknown" for a value outside the enum. Static string. */
const char *fc_status_name(fc_status status);

/* One English line. Static string. */
const char *fc_status_text(fc_status status);

/* What a reply says for this status: itself, or for a local one its wire counterpart. */
fc_status fc_status_on_wire(fc_status status);

/* Looks up a wire name of name_bytes bytes (need not end in NUL). False: no wire status has that name. */
bool fc_status_from_wire(const char *name, size_t name_bytes, fc_status *out_status);

/* Writes the reason, printf-style, cut to fit; out_reason may be NULL. Returns status, so that a check reads
 * `return fc_fail(FC_TOO_LARGE, out_reason, "...", ...)`. */
fc_status fc_fail(fc_status status, fc_reason *out_reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
