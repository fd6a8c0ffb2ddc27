/* Opening files that people name, to read them: configuration, certificates, keys, tensors. Never waits, as opening a
 * FIFO does for a writer, and never reads what has no end, as a device may.
 *
 * Any thread.
 */
#ifndef FC_PROTO_PLAIN_FILE_H
#define FC_PROTO_PLAIN_FILE_H

#include "proto/status.h"

#include <stdio.h>

/* Opens a regular file, or /dev/null as an empty one, for reading; close it with fclose(). The reason leaves the path
 * to the caller. FC_INVALID_ARGUMENT: something else is there; FC_IO; FC_NO_MEMORY. */
fc_status fc_plain_file_open(const char *path, FILE **out_file, fc_reason *out_reason);

#endif
