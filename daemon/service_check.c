/* See service_check.h. */
#include "daemon/service_check.h"

#include "daemon/admission.h"

fc_status fc_service_check_tunables(const fc_service_tunables *tunables, const fc_engine_info *info,
                                    fc_reason *out_reason)
{
    if (tunables->queue_requests < 1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "queue-requests: at least 1 is needed");
    if (tunables->inflight_per_peer < 1)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "inflight-per-peer: at least 1 is needed");
    if (tunables->batch_requests < 1 || tunables->batch_requests > FC_BATCH_REQUESTS_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "batch-requests: 1 to %d are possible", FC_BATCH_REQUESTS_MAX);
    fc_kernel kernel = tunables->default_kernel;
    if (kernel != FC_KERNEL_AUTO && ((unsigned)kernel >= FC_KERNEL_COUNT || !info->has_kernel[kernel])) {
        char names[128];
        fc_admission_kernel_list(info, names, sizeof names);
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "kernel: this engine has no %s; it has %s",
                       fc_kernel_name(kernel), names);
    }
    return FC_OK;
}

fc_status fc_service_check_config(const fc_service_config *config, fc_reason *out_reason)
{
    if (config->tokens > FC_TOKENS_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "tokens: at most %d are possible", FC_TOKENS_MAX);
    if (config->head_dim > FC_HEAD_DIM_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "head-dim: at most %d is possible", FC_HEAD_DIM_MAX);
    if (config->lane_count > FC_SERVICE_LANES_MAX)
        return fc_fail(FC_INVALID_ARGUMENT, out_reason, "lanes: at most %d are possible", FC_SERVICE_LANES_MAX);
    return FC_OK;
}
