/* Writing result files whole or not at all. */
#include "client/tool_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Larger than every text we write: those fail in fc_file_commit(), where errno is at hand. */
#define BUFFER_BYTES 65536

static fc_status fail_errno(const char *what, const char *path, fc_reason *out_reason)
{
    int error = errno;
    return fc_fail(FC_IO, out_reason, "%s: %s: %s", path, what, strerror(error));
}

static void forget(fc_file *file)
{
    free(file->path);
    free(file->temp_path);
    *file = (fc_file){0};
}

/* A device, a pipe or standard output: renaming over those would replace them. */
static fc_status open_direct(const char *path, fc_file *out_file, fc_reason *out_reason)
{
    FILE *stream = strcmp(path, "-") == 0 ? fdopen(dup(STDOUT_FILENO), "w") : fopen(path, "w");
    if (stream == NULL)
        return fail_errno("cannot open for writing", path, out_reason);
    char *copy = strdup(path);
    if (copy == NULL) {
        fclose(stream);
        return fc_fail(FC_NO_MEMORY, out_reason, "%s: out of memory", path);
    }
    setvbuf(stream, NULL, _IOFBF, BUFFER_BYTES);
    *out_file = (fc_file){.stream = stream, .path = copy};
    return FC_OK;
}

/* mkstemp makes files only their owner may read; results get the mode any new file would. */
static void use_ordinary_mode(int fd)
{
    mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
}

fc_status fc_file_create(const char *path, fc_file *out_file, fc_reason *out_reason)
{
    fc_status st = FC_OK;
    struct stat info;
    bool exists = stat(path, &info) == 0;
    if (strcmp(path, "-") == 0 || (exists && !S_ISREG(info.st_mode)))
        return open_direct(path, out_file, out_reason);
    fc_file file = {.path = exists ? realpath(path, NULL) : strdup(path)};
    if (file.path == NULL || asprintf(&file.temp_path, "%s.XXXXXX", file.path) < 0) {
        file.temp_path = NULL;
        st = fc_fail(FC_NO_MEMORY, out_reason, "%s: out of memory", path);
        goto free_paths;
    }
    int fd = mkstemp(file.temp_path);
    if (fd < 0) {
        st = fail_errno("cannot create a file there", path, out_reason);
        goto free_paths;
    }
    use_ordinary_mode(fd);
    file.stream = fdopen(fd, "w");
    if (file.stream == NULL) {
        st = fail_errno("cannot open for writing", path, out_reason);
        goto remove_temp;
    }
    setvbuf(file.stream, NULL, _IOFBF, BUFFER_BYTES);
    *out_file = file;
    return FC_OK;
remove_temp:
    close(fd);
    unlink(file.temp_path);
free_paths:
    forget(&file);
    return st;
}

void fc_file_write(fc_file *file, const void *data, size_t bytes)
{
    errno = 0;
    if (bytes > 0 && fwrite(data, 1, bytes, file->stream) != bytes && file->error == 0)
        file->error = errno != 0 ? errno : EIO;
}

fc_status fc_file_commit(fc_file *file, fc_reason *out_reason)
{
    fc_status st = FC_OK;
    errno = 0;
    bool was_written = fflush(file->stream) == 0 && !ferror(file->stream);
    int error = file->error != 0 ? file->error : errno;
    if (fclose(file->stream) != 0 && was_written) {
        was_written = false;
        error = errno;
    }
    if (!was_written) {
        errno = error != 0 ? error : EIO;
        st = fail_errno("could not be written", file->path, out_reason);
    } else if (file->temp_path != NULL && rename(file->temp_path, file->path) != 0) {
        st = fail_errno("cannot be replaced", file->path, out_reason);
    }
    if (st != FC_OK && file->temp_path != NULL)
        unlink(file->temp_path);
    forget(file);
    return st;
}

void fc_file_abort(fc_file *file)
{
    if (file->stream != NULL)
        fclose(file->stream);
    if (file->temp_path != NULL)
        unlink(file->temp_path);
    forget(file);
}
