/* The public outcomes' names and texts, which are proto/status.def's: every enumerator must equal its counterpart. */
#include "client/flashcore.h"
#include "proto/status.h"
#include "proto/vocab.h"

#define SAME(name) _Static_assert((int)FLASHCORE_##name == (int)FC_##name, "flashcore.h and proto/*.def differ: " #name)
SAME(OK);
SAME(INVALID_ARGUMENT);
SAME(UNSUPPORTED);
SAME(TOO_LARGE);
SAME(BUSY);
SAME(DEADLINE_EXCEEDED);
SAME(CANCELLED);
SAME(DRAINING);
SAME(INTERNAL);
SAME(DEVICE_LOST);
SAME(UNAUTHORIZED);
SAME(NO_MEMORY);
SAME(IO);
SAME(TIMED_OUT);
SAME(UNREACHABLE);
SAME(CONNECTION_LOST);
SAME(BAD_REPLY);
_Static_assert(FC_STATUS_COUNT == FLASHCORE_BAD_REPLY + 1, "proto/status.def has an outcome that flashcore.h lacks");
SAME(F16);
SAME(BF16);
SAME(F32);
_Static_assert(FC_DTYPE_COUNT == FLASHCORE_F32 + 1, "proto/vocab.def has a dtype that flashcore.h lacks");
SAME(BHSD);
SAME(BSHD);
_Static_assert(FC_LAYOUT_COUNT == FLASHCORE_BSHD + 1, "proto/vocab.def has a layout that flashcore.h lacks");
SAME(CAUSAL_NONE);
SAME(CAUSAL_TOP_LEFT);
SAME(CAUSAL_BOTTOM_RIGHT);
_Static_assert(FC_CAUSAL_COUNT == FLASHCORE_CAUSAL_BOTTOM_RIGHT + 1, "proto/vocab.def has a mode flashcore.h lacks");

uint32_t flashcore_api_version(void)
{
    return FLASHCORE_API_VERSION;
}

const char *flashcore_status_name(flashcore_status status)
{
    return fc_status_name((fc_status)status);
}

const char *flashcore_status_text(flashcore_status status)
{
    return fc_status_text((fc_status)status);
}
