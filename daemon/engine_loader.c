/* See engine_loader.h. */
#include "daemon/engine_loader.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static fc_status load_cuda(const char *path, const fc_engine_ops **out_ops, fc_reason *out_reason)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL)
        return fc_fail(FC_UNSUPPORTED, out_reason, "cuda engine: %s", dlerror());
    /* POSIX's way from an object pointer to a function pointer. */
    fc_engine_entry entry = NULL;
    *(void **)&entry = dlsym(object, FC_ENGINE_SYMBOL);
    const fc_engine_ops *ops = entry != NULL ? entry() : NULL;
    fc_status st = FC_OK;
    if (ops == NULL)
        st = fc_fail(FC_UNSUPPORTED, out_reason, "cuda engine: %s has no %s", path, FC_ENGINE_SYMBOL);
    else if (ops->abi_version != FC_ENGINE_ABI_VERSION)
        st = fc_fail(FC_UNSUPPORTED, out_reason, "cuda engine: %s speaks version %u, this daemon %u", path,
                     ops->abi_version, (unsigned)FC_ENGINE_ABI_VERSION);
    if (st != FC_OK)
        return st;
    *out_ops = ops;
    return FC_OK;
}

/* The folder the executable lies in, with a slash; empty when unknown. */
static void executable_folder(char *out_folder, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", out_folder, size - 1);
    out_folder[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(out_folder, '/');
    if (slash != NULL)
        slash[1] = '\0';
    else
        out_folder[0] = '\0';
}

static fc_status search_cuda(const fc_engine_ops **out_ops, fc_reason *out_reason)
{
    char folder[PATH_MAX];
    char path[PATH_MAX + sizeof FC_ENGINE_CUDA_FILE];
    executable_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%s%s", folder, FC_ENGINE_CUDA_FILE);
    if (folder[0] != '\0' && access(path, F_OK) == 0)
        return load_cuda(path, out_ops, out_reason);
    snprintf(path, sizeof path, "%s/%s", FC_ENGINE_DIR, FC_ENGINE_CUDA_FILE);
    if (access(path, F_OK) == 0)
        return load_cuda(path, out_ops, out_reason);
    return fc_fail(FC_UNSUPPORTED, out_reason, "cuda engine: no %s beside the program or in %s", FC_ENGINE_CUDA_FILE,
                   FC_ENGINE_DIR);
}

fc_status fc_engine_load(fc_engine_kind kind, const char *path, const fc_engine_ops **out_ops, fc_reason *out_reason)
{
    if (kind == FC_ENGINE_CPU) {
        *out_ops = fc_engine_cpu();
        return FC_OK;
    }
    if (path != NULL && path[0] != '\0')
        return load_cuda(path, out_ops, out_reason);
    return search_cuda(out_ops, out_reason);
}
