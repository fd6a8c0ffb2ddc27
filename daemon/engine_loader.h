/* Finds an engine: `cpu` is linked in, `cuda` is a shared object opened with dlopen. Loading says whether there is a
 * table of functions to call; whether there is a device behind it, its open() says.
 *
 * Loop thread, before anything else is started. A loaded object stays loaded until the process ends: CUDA does not
 * survive dlclose.
 */
#ifndef FC_DAEMON_ENGINE_LOADER_H
#define FC_DAEMON_ENGINE_LOADER_H

#include "kernels/engine.h"

/* The cuda engine's file name, looked for in the executable's folder, then in FC_ENGINE_DIR. */
#define FC_ENGINE_CUDA_FILE "flashcore-cuda.so"

/* The engine of that kind. path: the shared object to open instead of searching; NULL or "": search. FC_UNSUPPORTED:
 * absent, unloadable or of another ABI version; the reason is one line that says which, for the log. */
fc_status fc_engine_load(fc_engine_kind kind, const char *path, const fc_engine_ops **out_ops, fc_reason *out_reason);

#endif
