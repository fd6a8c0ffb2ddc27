/* See hello.h. */
#include "daemon/hello.h"

static const char *const FEATURES[] = {"inline",  "gqa",      "lse",    "kv_len", "window",
                                       "softcap", "deadline", "cancel", "stats"};

static void add_feature(fc_wire_hello *hello, const char *name)
{
    hello->features[hello->feature_count++] = fc_wire_text_make(name);
}

static fc_wire_limits limits_of(const fc_service_config *config, bool has_device_arenas)
{
    return (fc_wire_limits){
        .message_bytes = config->message_bytes,
        .tensor_bytes = config->tensor_bytes,
        .tokens = config->tokens,
        .head_dim = config->head_dim,
        .batch_entries = config->engine_config.lane_segments,
        .queue_requests = config->tunables.queue_requests,
        .queue_bytes = config->tunables.queue_bytes,
        .inflight_per_peer = config->tunables.inflight_per_peer,
        .arena_bytes = config->arena_bytes,
        .arena_bytes_per_peer = config->arena_bytes_per_peer,
        .device_arena_bytes = has_device_arenas ? config->device_arena_bytes : 0,
        .device_arena_bytes_per_peer = config->device_arena_bytes_per_peer,
    };
}

bool fc_hello_has_device_arenas(const fc_service_config *config, const fc_engine_info *info)
{
    return config->device_arena_bytes != 0 && info->memory_granule_bytes != 0;
}

void fc_hello_describe(const fc_service_config *config, const fc_engine_info *info, fc_wire_hello *out_hello)
{
    bool has_device_arenas = fc_hello_has_device_arenas(config, info);
    fc_kernel kernel = config->tunables.default_kernel;
    *out_hello = (fc_wire_hello){
        .server = fc_wire_text_make("flashcored"),
        .version = fc_wire_text_make(FC_VERSION),
        .device = fc_wire_text_make(info->device_name),
        .default_kernel = fc_wire_text_make(fc_kernel_name(kernel != FC_KERNEL_AUTO ? kernel : info->default_kernel)),
        .limits = limits_of(config, has_device_arenas),
    };
    for (int i = 0; i < FC_KERNEL_COUNT && out_hello->kernel_count < FC_NAME_LIST_MAX; i++) {
        if (info->has_kernel[i])
            out_hello->kernels[out_hello->kernel_count++] = fc_wire_text_make(fc_kernel_name((fc_kernel)i));
    }
    for (size_t i = 0; i < sizeof FEATURES / sizeof FEATURES[0]; i++)
        add_feature(out_hello, FEATURES[i]);
    if (config->arena_bytes != 0)
        add_feature(out_hello, "arena");
    if (has_device_arenas)
        add_feature(out_hello, "device_arena");
}
