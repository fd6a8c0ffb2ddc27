#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention the way `test_kernels --time` times ours: a CUDA graph holding a linear
chain of calls over rotating sets of tensors, divided by their number, median of many replays.

usage: time_torch.py [--json FILE]    needs PyTorch with CUDA
"""
import argparse
import json
import statistics

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

CHAIN, REPLAYS, WARM_SETS, MAX_SETS = 32, 15, 4, 128
# name, batch, q_heads, kv_heads, q_len, kv_len, head_dim, dtype, causal; the rows of times.c that PyTorch can do
ROWS = [
    ("B1 H8 S512 D64 f16", 1, 8, 8, 512, 512, 64, torch.float16, False),
    ("B1 H8 S512 D64 bf16", 1, 8, 8, 512, 512, 64, torch.bfloat16, False),
    ("B1 H8 S512 D64 f16 causal", 1, 8, 8, 512, 512, 64, torch.float16, True),
    ("B1 H8 S128 D64 f16", 1, 8, 8, 128, 128, 64, torch.float16, False),
    ("B1 H8 S2048 D64 f16", 1, 8, 8, 2048, 2048, 64, torch.float16, False),
    ("B1 H8 S512 D128 f16", 1, 8, 8, 512, 512, 128, torch.float16, False),
]
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def make_set(row):
    _, batch, q_heads, kv_heads, q_len, kv_len, head_dim, dtype, _ = row
    q = torch.randn(batch, q_heads, q_len, head_dim, dtype=dtype, device="cuda")
    k = torch.randn(batch, kv_heads, kv_len, head_dim, dtype=dtype, device="cuda")
    return q, k, torch.randn_like(k)


def time_chain(sets, is_causal):
    length = max(len(sets), CHAIN)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for q, k, v in sets[:2]:
            F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(length):
            q, k, v = sets[i % len(sets)]
            F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    times = []
    for i in range(REPLAYS + 2):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1000 / length)
    return statistics.median(times[2:])


def time_row(row, backend):
    l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    q, k, _ = make_set(row)
    set_bytes = 2 * (q.numel() + k.numel()) * q.element_size()
    cold = min(max(int(2.2 * l2_bytes / set_bytes) + 1, WARM_SETS), MAX_SETS)
    sets = [make_set(row) for _ in range(cold)]
    with sdpa_kernel(backend):
        return {"warm_us": time_chain(sets[:WARM_SETS], row[-1]), "cold_us": time_chain(sets, row[-1])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json")
    arguments = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    results = []
    for row in ROWS:
        result = {"problem": row[0]}
        line = f"{row[0]:34}"
        for name, backend in BACKENDS.items():
            try:
                result[name] = time_row(row, backend)
                line += f"  {name} {result[name]['warm_us']:8.2f} us warm {result[name]['cold_us']:8.2f} cold"
            except RuntimeError as error:
                line += f"  {name}: {str(error).splitlines()[0][:40]}"
        results.append(result)
        print(line, flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
