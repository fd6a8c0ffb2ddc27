/* Chooses and opens the engine the options ask for.
 *
 * Which engines are tried is decided from --engine and --kernel alone (fc_engine_attempts, pure); opening happens
 * once, on the main thread, before anything else is started.
 */
#ifndef FC_DAEMON_ENGINE_OPEN_H
#define FC_DAEMON_ENGINE_OPEN_H

#include "daemon/options.h"
#include "kernels/engine.h"

/* The engines to try, best first; the next one only when the one before cannot be had. */
typedef struct fc_engine_attempt_list {
    uint32_t count;
    fc_engine_kind kinds[2];
} fc_engine_attempt_list;

/* A kernel named with --kernel settles the engine; otherwise auto tries the GPU first. FC_INVALID_ARGUMENT: --engine
 * names one and --kernel is a kernel of the other. */
fc_status fc_engine_attempts(fc_engine_choice engine, fc_kernel kernel, fc_engine_attempt_list *out_attempts,
                             fc_reason *out_reason);

typedef struct fc_opened_engine {
    const fc_engine_ops *ops;
    fc_engine *engine; /* close with ops->close */
    fc_engine_config config;
    fc_engine_info info;
} fc_opened_engine;

/* Opens; a fallback is logged in one line that says why. Any status of the loader or of the engine's open, or
 * FC_INVALID_ARGUMENT when the engine lacks the kernel named with --kernel; the reason lists what there is. */
fc_status fc_engine_open(const fc_options *options, fc_opened_engine *out_opened, fc_reason *out_reason);

/* --list-kernels: a line a kernel, with engine, whether this machine can run it, what it can do, and its idea; a line
 * an engine, with what auto means there. */
void fc_engine_list_kernels(FILE *out, const fc_options *options);

/* "cpu, baseline, vec": the engine's kernels. Returns text. */
#define FC_KERNEL_LIST_BYTES 160
const char *fc_engine_kernel_list(const fc_engine_info *info, char text[FC_KERNEL_LIST_BYTES]);

#endif
