/* Writing result files whole or not at all: into a temporary file beside the target, renamed when everything is on it.
 * Not thread-safe; a file belongs to one thread.
 */
#ifndef FC_CLIENT_TOOL_FILE_H
#define FC_CLIENT_TOOL_FILE_H

#include "proto/status.h"

#include <stdio.h>

typedef struct fc_file {
    FILE *stream;    /* write text here; fc_file_commit() notices what went wrong */
    char *path;      /* what it will be called; own copy, symbolic links resolved */
    char *temp_path; /* what it is called now; NULL for devices and "-" (standard output), which are written directly */
    int error;       /* errno of the first fc_file_write() that failed, or 0 */
} fc_file;

/* Opens path for writing; an existing file stays as it is until fc_file_commit(). FC_IO, FC_NO_MEMORY with a reason
 * that names the path. On success the caller commits or aborts it. */
fc_status fc_file_create(const char *path, fc_file *out_file, fc_reason *out_reason);

/* Writes bytes; a failure is kept for fc_file_commit(). For data larger than the stream's buffer, whose errno would be
 * lost by then. */
void fc_file_write(fc_file *file, const void *data, size_t bytes);

/* Flushes, closes and renames. On failure (a full disk shows up here at the latest) the temporary file is removed, the
 * target is untouched and the reason says why. Ends the file either way. */
fc_status fc_file_commit(fc_file *file, fc_reason *out_reason);

/* Closes and removes the temporary file. Ends the file. */
void fc_file_abort(fc_file *file);

#endif
