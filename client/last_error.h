/* Why this thread's last failing call failed, for flashcore_last_error(). */
#ifndef FC_CLIENT_LAST_ERROR_H
#define FC_CLIENT_LAST_ERROR_H

#include "client/flashcore.h"
#include "proto/status.h"

/* Keeps the reason's text (or the status's own when it is empty); FC_OK clears. Returns status. */
flashcore_status fc_last_error_set(fc_status status, const fc_reason *reason);

#endif
