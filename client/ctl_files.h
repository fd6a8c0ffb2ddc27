/* Q, K and V from .npy files as one problem. No state, any thread. */
#ifndef FC_CLIENT_CTL_FILES_H
#define FC_CLIENT_CTL_FILES_H

#include "client/ctl_options.h"
#include "client/tool_npy.h"

/* Do the three belong together? Fills *out_shape with dtype, layout and sizes; the reason names the option at fault,
 * what was expected and what was found. */
fc_status fc_ctl_files_shape(const fc_npy_header *q, const fc_npy_header *k, const fc_npy_header *v, fc_layout layout,
                             fc_shape *out_shape, fc_reason *out_reason);

/* Loads options' q, k and v and takes masks from the options. On FC_OK the caller ends *out_inputs with
 * fc_inputs_fini(). */
fc_status fc_ctl_files_load(const fc_ctl_options *options, fc_shape *out_shape, fc_inputs *out_inputs,
                            fc_reason *out_reason);

#endif
