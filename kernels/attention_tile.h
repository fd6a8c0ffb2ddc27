/* Query rows one block of each kernel works on: the plan counts blocks with them, the kernels are built for them. */
#ifndef FC_KERNELS_ATTENTION_TILE_H
#define FC_KERNELS_ATTENTION_TILE_H

#define FC_TILE_CPU_Q 64
#define FC_TILE_BASELINE_Q 1
#define FC_TILE_VEC_Q 16

/* Tensor maps of a segment for `hopper`, in this order. */
enum { FC_HOPPER_MAP_Q, FC_HOPPER_MAP_K, FC_HOPPER_MAP_V, FC_HOPPER_MAP_OUT };
#define FC_HOPPER_MAPS 4
#define FC_HOPPER_DESCRIPTOR_BYTES (FC_HOPPER_MAPS * 128)

#endif
