#!/usr/bin/env python3
"""Times the cpu kernel against PyTorch's scaled_dot_product_attention on the same cores, in one process, turn by turn.

Both sides get the same tensors, one call at a time. A shape is measured in turns: a few calls of one, then of the other,
so that a slow spell of the machine falls on both. The figure of a side is the median of its calls; the minimum is kept
beside it. The kernel's time includes checking, planning and cutting the problem, as a lane does for each request. On a
machine that others load, --threads 1 --cpu-time compares processor time instead.

    cpu_vs_torch.py --library build/flashcore-cpu.so --out docs/bench
"""
import argparse
import ctypes
import json
import math
import os
import pathlib
import statistics
import sys
import time

from bars import svg as bars_svg

DTYPES = {"f16": 0, "bf16": 1, "f32": 2}


class Kernel:
    def __init__(self, path, threads, isa):
        self.lib = ctypes.CDLL(os.path.abspath(path))
        self.lib.bench_open.restype = ctypes.c_void_p
        self.lib.bench_isa_name.restype = ctypes.c_char_p
        self.lib.bench_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float, ctypes.c_void_p,
                                       ctypes.c_void_p, ctypes.c_void_p]
        self.handle = self.lib.bench_open(isa, threads)
        if not self.handle:
            sys.exit("this machine does not support that instruction set")
        self.isa = self.lib.bench_isa_name(isa).decode()

    def prepare(self, dtype, is_causal, q, k, v, out, lse):
        """A function without arguments that runs one call; everything ctypes needs is made beforehand."""
        batch, heads, q_len, head_dim = q.shape
        sides = (ctypes.c_int32 * 8)(DTYPES[dtype], is_causal, batch, heads, k.shape[1], q_len, k.shape[2], head_dim)
        inputs = (ctypes.c_void_p * 3)(q.data_ptr(), k.data_ptr(), v.data_ptr())
        run, handle, scale = self.lib.bench_run, self.handle, 1.0 / math.sqrt(head_dim)
        out_data, lse_data = out.data_ptr(), lse.data_ptr()

        def call():
            if run(handle, sides, scale, inputs, out_data, lse_data) != 0:
                sys.exit("the kernel failed")
        return call


def timed(call, count, into, clock):
    for _ in range(count):
        start = clock()
        call()
        into.append((clock() - start) * 1e6)


def measure(ours, theirs, seconds, clock=time.perf_counter):
    """Calls of both, turn by turn, for about `seconds`; every turn lasts some milliseconds."""
    probe = []
    timed(ours, 3, probe, clock)
    timed(theirs, 3, probe, clock)
    turn = max(1, min(50, int(5000 / max(statistics.median(probe), 1.0))))
    a, b = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(a) < 5:
        timed(ours, turn, a, clock)
        timed(theirs, turn, b, clock)
    return a, b


def run_shapes(torch, kernel, args):
    attention = torch.nn.functional.scaled_dot_product_attention
    rows = []
    torch_dtypes = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
    for dtype in args.dtypes:
        for head_dim in args.head_dims:
            for is_causal in (False, True):
                for length in args.lengths:
                    torch.manual_seed(length + head_dim)
                    q, k, v = (torch.randn(1, args.heads, length, head_dim).to(torch_dtypes[dtype]) for _ in range(3))
                    out = torch.empty_like(q)
                    lse = torch.empty(1, args.heads, length)
                    ours = kernel.prepare(dtype, is_causal, q, k, v, out, lse)
                    a, b = measure(ours, lambda: attention(q, k, v, is_causal=is_causal), args.seconds,
                                   time.process_time if args.cpu_time else time.perf_counter)
                    want = attention(q.double(), k.double(), v.double(), is_causal=is_causal)
                    error = ((out.double() - want).norm() / want.norm()).item()
                    work = 4.0 * args.heads * length * length * head_dim * (0.5 if is_causal else 1.0)
                    row = {"dtype": dtype, "head_dim": head_dim, "causal": is_causal, "length": length,
                           "ours_us": statistics.median(a), "ours_min_us": min(a),
                           "torch_us": statistics.median(b), "torch_min_us": min(b),
                           "calls": len(a), "relative_error": error}
                    row["ratio"] = row["torch_us"] / row["ours_us"]
                    row["ratio_min"] = row["torch_min_us"] / row["ours_min_us"]
                    row["ours_gflops"] = work / row["ours_us"] * 1e-3
                    rows.append(row)
                    print("%-5s D%-4d %-7s S%-5d  %9.0f us  %9.0f us  %5.2fx (min %5.2fx)  %6.0f GFLOP/s" % (
                        dtype, head_dim, "causal" if is_causal else "full", length, row["ours_us"], row["torch_us"],
                        row["ratio"], row["ratio_min"], row["ours_gflops"]), flush=True)
    return rows


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


def chart(rows, means, title):
    """The ratio, one bar a shape, grouped by dtype; a line at 1.0."""
    colors = {"f32": "#3b6ea5", "bf16": "#c1662f", "f16": "#6b8e4e"}
    sections = []
    for dtype in dict.fromkeys(r["dtype"] for r in rows):
        bars = [("S %d, D %d%s" % (r["length"], r["head_dim"], ", causal" if r["causal"] else ""),
                 [(r["ratio"], colors[dtype], "%.2f" % r["ratio"])]) for r in rows if r["dtype"] == dtype]
        sections.append(("%s, geometric mean %.2fx" % (dtype, means[dtype]), bars))
    return bars_svg(title, "time of PyTorch / time of the cpu kernel, medians; right of the line: the kernel is faster",
                    sections, mark=1.0)


def machine_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="build/flashcore-cpu.so")
    parser.add_argument("--out", help="folder for a .json and a .svg; none: print only")
    parser.add_argument("--name", default="cpu_vs_torch", help="of those files, without their endings")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", type=int, default=-1, help="0 portable, 1 avx2, 2 avx512, 3 amx; -1 best")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each shape")
    parser.add_argument("--dtypes", nargs="+", default=["f32", "bf16", "f16"], choices=sorted(DTYPES))
    parser.add_argument("--head-dims", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 256, 512, 1024, 2048, 4096])
    parser.add_argument("--cpu-time", action="store_true",
                        help="processor time, for a machine that others load; with --threads 1")
    args = parser.parse_args()
    if args.cpu_time and args.threads != 1:
        parser.error("--cpu-time needs --threads 1: waiting threads burn processor time")

    import torch
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    kernel = Kernel(args.library, args.threads, args.isa)
    print("%s, isa %s, torch %s (%s), %d threads, load %s" % (
        machine_name(), kernel.isa, torch.__version__, torch.backends.cpu.get_cpu_capability(), args.threads,
        os.getloadavg()))
    print("                                kernel         torch   torch / kernel")
    rows = run_shapes(torch, kernel, args)
    means = {d: geometric_mean([r["ratio"] for r in rows if r["dtype"] == d]) for d in args.dtypes}
    means_min = {d: geometric_mean([r["ratio_min"] for r in rows if r["dtype"] == d]) for d in args.dtypes}
    for dtype, mean in means.items():
        print("geometric mean %-5s %.2fx (of the minima %.2fx)" % (dtype, mean, means_min[dtype]))
    if args.out:
        out = pathlib.Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        report = {"machine": machine_name(), "isa": kernel.isa, "torch": torch.__version__, "threads": args.threads,
                  "clock": "processor" if args.cpu_time else "wall", "batch": 1, "heads": args.heads, "load_average": os.getloadavg()[0], "geometric_means": means,
                  "geometric_means_of_minima": means_min,
                  "shapes": rows}
        (out / (args.name + ".json")).write_text(json.dumps(report, indent=1) + "\n")
        title = "cpu kernel against PyTorch %s, B 1, H %d, %s" % (
            torch.__version__, args.heads,
            "one thread, processor time" if args.cpu_time else "%d threads" % args.threads)
        (out / (args.name + ".svg")).write_text(chart(rows, means, title))


if __name__ == "__main__":
    main()
