#!/usr/bin/env python3
"""Times the CUDA kernels beside PyTorch's FlashAttention-2 and cuDNN backends: one process, the same buffers, the same way.

A figure is microseconds a call: a CUDA graph holding a linear chain of calls over rotating sets of tensors, divided by
their number; the median of many replays, taken turn by turn so that a slow spell falls on every side. Warm: the sets fit
half the L2 cache (or there are two, where one does not); cold: they are more than twice as large as it. The SM clock is
read while the GPU works.

    bench_kernels.py --library build/flashcore-cuda.so --out docs/bench     everything, into JSON and a chart
    bench_kernels.py --quick ...                                            a part that takes a minute
    bench_kernels.py --variants --out FOLDER                                every compiled variant, splits and packings
    bench_kernels.py --profile --kernel NAME --shape NAME                   a few launches for a profiler to look at
    bench_kernels.py --dry-run                                              no GPU: the shapes, plans, and the structs

Needs PyTorch with CUDA. Exits with 1 when an answer is wrong.
"""
import argparse
import ctypes
import json
import pathlib
import statistics
import sys
import time

import flashcore_abi as abi
import kernel_report
from kernel_shapes import PEERS, SLOW_RUNGS, flops, kv_bytes, set_bytes, shapes

MAX_SETS, GRAPH_US, LEAST_CHAIN, MOST_CHAIN = 128, 3000, 2, 64
TOO_SLOW = 25  # times the fastest side: such a rung is not timed on that shape
MOST_ERROR = {"f16": 2e-3, "bf16": 1.6e-2, "f32": 1e-5}  # relative, against double precision: catches nonsense, proves nothing
DTYPES = {"f16": abi.F16, "bf16": abi.BF16, "f32": abi.F32}


class Clock:
    """The SM clock, from NVML; 0 where there is none."""

    def __init__(self):
        self.handle = ctypes.c_void_p()
        try:
            self.nvml = ctypes.CDLL("libnvidia-ml.so.1")
            is_open = self.nvml.nvmlInit_v2() == 0
            self.is_open = is_open and self.nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self.handle)) == 0
        except OSError:
            self.is_open = False

    def sm_mhz(self):
        mhz = ctypes.c_uint(0)
        if self.is_open:
            self.nvml.nvmlDeviceGetClockInfo(self.handle, 1, ctypes.byref(mhz))
        return mhz.value


# --- the sides ----------------------------------------------------------------------------------------------------

class Sets:
    """Rotating sets of tensors of one shape, on the device; with out and lse for the kernels."""

    def __init__(self, torch, shape, count):
        dtype = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}[shape.dtype]
        q_shape = (shape.batch, shape.q_heads, shape.q_len, shape.head_dim)
        kv_shape = (shape.batch, shape.kv_heads, shape.kv_len, shape.head_dim)

        def random(sides):
            return torch.randn(sides, dtype=dtype, device="cuda")
        self.shape, self.count = shape, count
        self.q = [random(q_shape) for _ in range(count)]
        self.k = [random(kv_shape) for _ in range(count)]
        self.v = [random(kv_shape) for _ in range(count)]
        self.out = [torch.empty(q_shape, dtype=dtype, device="cuda") for _ in range(count)]
        self.lse = [torch.empty(q_shape[:3], dtype=torch.float32, device="cuda") for _ in range(count)]


class Ours:
    """A rung, planned for the shape, with a launch a set."""

    def __init__(self, torch, library, device, rung, sets, **wish):
        self.torch, self.library, self.sets = torch, library, sets
        s = sets.shape
        problem = problem_of(s)
        self.plan = library.plan(device, rung, problem, **wish)
        self.keep = []  # what the launches point to
        self.workspace = self.device_bytes(bytes(max(self.plan.workspace_bytes, 256)))
        self.tickets = self.device_bytes(bytes(max(4 * self.plan.ticket_count, 256)))
        self.launches = [self.make_launch(problem, i) for i in range(sets.count)]

    def device_bytes(self, data):
        tensor = self.torch.frombuffer(bytearray(data), dtype=self.torch.uint8).cuda()
        self.keep.append(tensor)
        return tensor.data_ptr()

    def make_launch(self, problem, i):
        s, sets = self.sets.shape, self.sets
        segments, blocks = self.library.segments(problem, self.plan, tensors_of(s, *(
            t[i].data_ptr() for t in (sets.q, sets.k, sets.v, sets.out, sets.lse))))
        self.keep.append(segments)
        launch = abi.Launch(self.plan, segments, self.device_bytes(bytes(segments)), s.batch, blocks, self.workspace,
                            self.plan.workspace_bytes, self.tickets, None, None)
        if self.plan.descriptor_bytes:
            descriptors = self.library.describe(launch)
            self.keep.append(descriptors)
            launch.descriptors = ctypes.addressof(descriptors)
            launch.d_descriptors = self.device_bytes(descriptors.raw)
        return launch

    def call(self, i, stream):
        self.library.launch(self.launches[i], stream)
        return self.sets.out[i]


class Peer:
    """A backend of PyTorch's scaled_dot_product_attention."""

    def __init__(self, torch, name, sets):
        from torch.nn.attention import SDPBackend, sdpa_kernel
        s = sets.shape
        backend = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}[name]
        attention = torch.nn.functional.scaled_dot_product_attention
        self.sets, self.kept, self.how = sets, [None] * sets.count, ""
        k, v, is_grouped = sets.k, sets.v, s.q_heads != s.kv_heads

        def run(i, keys, values, **more):
            with sdpa_kernel(backend):
                return attention(sets.q[i], keys[i], values[i], is_causal=s.causal, **more)
        self.run = lambda i: run(i, k, v)
        if not is_grouped:
            return
        try:
            run(0, k, v, enable_gqa=True)
            self.run = lambda i: run(i, k, v, enable_gqa=True)
            self.how = "enable_gqa"
        except RuntimeError:
            group = s.q_heads // s.kv_heads
            expanded = [[t.repeat_interleave(group, 1) for t in tensors] for tensors in (k, v)]
            self.run = lambda i: run(i, *expanded)
            self.how = "K and V expanded beforehand: it knows no groups here"

    def call(self, i, stream):
        self.kept[i] = self.run(i)  # as many outputs as sets live at a time, as with ours
        return self.kept[i]


def problem_of(s):
    return abi.problem(DTYPES[s.dtype], abi.TOP_LEFT if s.causal else abi.NONE, s.batch, s.q_heads, s.kv_heads, s.q_len,
                       s.kv_len, s.head_dim)


def tensors_of(s, q, k, v, out, lse):
    q_strides = abi.contiguous(s.q_heads, s.q_len, s.head_dim)
    kv_strides = abi.contiguous(s.kv_heads, s.kv_len, s.head_dim)
    return abi.Tensors(q, k, v, out, lse, q_strides, kv_strides, kv_strides, q_strides)


# --- timing -------------------------------------------------------------------------------------------------------

class Timer:
    def __init__(self, torch, clock, rounds, replays):
        self.torch, self.clock, self.rounds, self.replays = torch, clock, rounds, replays
        self.stream = torch.cuda.Stream()

    def once_us(self, side):
        """One call, warmed up, roughly."""
        events = [self.torch.cuda.Event(enable_timing=True) for _ in range(2)]
        with self.torch.cuda.stream(self.stream):
            for i in range(3):
                if i == 2:
                    events[0].record()
                side.call(0, self.stream.cuda_stream)
            events[1].record()
        self.stream.synchronize()
        return events[0].elapsed_time(events[1]) * 1000

    def capture(self, side, set_count, length):
        with self.torch.cuda.stream(self.stream):
            side.call(0, self.stream.cuda_stream)
        self.stream.synchronize()
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.stream(self.stream):  # torch.cuda.graph would empty the allocator's cache each time
            graph.capture_begin(capture_error_mode="thread_local")
            for i in range(length):
                side.call(i % set_count, self.stream.cuda_stream)
            graph.capture_end()
        return graph

    def replay(self, graph, count):
        """Milliseconds of each replay, and the SM clock half way."""
        events = [self.torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        with self.torch.cuda.stream(self.stream):
            graph.replay()
            for i in range(count):
                events[i].record()
                graph.replay()
            events[count].record()
        mhz = self.clock.sm_mhz()
        self.stream.synchronize()
        return [events[i].elapsed_time(events[i + 1]) for i in range(count)], mhz

    def turns(self, sides, set_count):
        """{name: (median us a call, SM MHz)} of the sides {name: (side, us a call, roughly)}."""
        graphs = {}
        for name, (side, us) in sides.items():
            length = int(min(max(GRAPH_US / us, LEAST_CHAIN), MOST_CHAIN))
            length = max(length, set_count if set_count > LEAST_CHAIN else 0)
            graphs[name] = (self.capture(side, set_count, length), length)
        samples, clocks = {name: [] for name in sides}, {name: [] for name in sides}
        for _ in range(self.rounds):
            for name, (graph, length) in graphs.items():
                times, mhz = self.replay(graph, self.replays)
                samples[name] += [1000 * t / length for t in times]
                clocks[name].append(mhz)
        return {name: (statistics.median(samples[name]), int(statistics.median(clocks[name]))) for name in sides}


def matmul_peak(torch, timer):
    """TFLOP/s of torch.matmul on 8192 x 8192 f16."""
    n = 8192
    a, b = (torch.randn(n, n, dtype=torch.float16, device="cuda") for _ in range(2))

    class Product:
        def call(self, i, stream):
            return torch.matmul(a, b)
    us, mhz = timer.turns({"matmul": (Product(), 1500.0)}, 1)["matmul"]
    return 2.0 * n ** 3 / us * 1e-6, mhz


# --- one shape ----------------------------------------------------------------------------------------------------

def right_answer(torch, sets):
    """Set 0 in double precision, or None where that would take too much memory."""
    s = sets.shape
    if s.batch * s.q_heads * s.kv_len * max(s.q_len, s.head_dim) > 1 << 27:
        return None
    q, group = sets.q[0].double(), s.q_heads // s.kv_heads
    k, v = (t[0].double().repeat_interleave(group, 1) for t in (sets.k, sets.v))
    scores = q @ k.transpose(-1, -2) * s.head_dim ** -0.5
    if s.causal:
        scores.masked_fill_(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1) @ v


def error_of(torch, got, want):
    return float((got.double() - want).norm() / want.norm())


def make_sides(torch, bench, sets, rungs):
    """The sides that can do the shape, and {name: why not} of the others."""
    sides, skipped = {}, {}
    for peer in PEERS if sets.shape.dtype != "f32" else ():
        try:
            sides[peer] = Peer(torch, peer, sets)
            sides[peer].call(0, None)
        except RuntimeError as error:
            sides.pop(peer, None)
            skipped[peer] = str(error).splitlines()[0][:100]
    for rung in rungs:
        try:
            sides[rung] = Ours(torch, bench.library, bench.device, rung, sets)
        except abi.Unsupported as error:
            skipped[rung] = str(error)
    torch.cuda.synchronize()
    return sides, skipped


def check_answers(torch, bench, sets, sides):
    """Relative errors by side; what is wrong is printed and counted."""
    want, errors = right_answer(torch, sets), {}
    if want is None and "flash" in sides:
        want = sides["flash"].call(0, None).double()
    for name, side in sides.items() if want is not None else ():
        sets.out[0].fill_(float("nan"))
        torch.cuda.synchronize()
        got = side.call(0, torch.cuda.current_stream().cuda_stream)
        errors[name] = error_of(torch, got, want)
        if not errors[name] <= MOST_ERROR[sets.shape.dtype]:
            print("WRONG %s %s: relative error %g" % (name, sets.shape.name, errors[name]), flush=True)
            bench.wrong += name not in PEERS
    return errors


def set_counts(shape, l2_bytes):
    """How many sets are warm and how many cold; the same where the tensors are too large for either."""
    bytes_each = set_bytes(shape)
    warm = max(1, min(4, int(0.5 * l2_bytes / bytes_each)))
    cold = int(min(max(2.2 * l2_bytes / bytes_each + 1, 2), MAX_SETS))
    return (2, 2) if bytes_each > 0.5 * l2_bytes and cold <= 2 else (warm, cold)


def time_shape(torch, bench, shape, rungs):
    warm, cold = set_counts(shape, bench.l2_bytes)
    if set_bytes(shape) > 8 << 30:
        warm = cold = 1
    wants_cold = cold != warm and (shape.group == "ladder" or not bench.is_quick)
    sets = Sets(torch, shape, cold if wants_cold else warm)
    sides, skipped = make_sides(torch, bench, sets, rungs)
    errors = check_answers(torch, bench, sets, sides)
    rough = {name: bench.timer.once_us(side) for name, side in sides.items()}
    fastest = min(rough.values()) if rough else 0
    timed = {name: (side, rough[name]) for name, side in sides.items()
             if shape.group == "ladder" or rough[name] < TOO_SLOW * fastest}
    row = shape._asdict()
    row.update(flops=flops(shape), kv_bytes=kv_bytes(shape), sets=[warm, cold], sides={})
    warm_times = bench.timer.turns(timed, warm)
    cold_times = bench.timer.turns(timed, cold) if wants_cold else {}
    for name, side in sides.items():
        figures = row["sides"][name] = {}
        if name not in timed:
            skipped[name] = "one call takes %.0f us" % rough[name]
            figures["skipped"] = skipped[name]
            continue
        figures["warm_us"], figures["sm_mhz"] = round(warm_times[name][0], 3), warm_times[name][1]
        if name in cold_times:
            figures["cold_us"] = round(cold_times[name][0], 3)
        if isinstance(side, Ours):
            figures["plan"] = [side.plan.variant, side.plan.split_count, side.plan.packed_heads]
        elif side.how:
            figures["how"] = side.how
        if name in errors:
            figures["error"] = float("%.3g" % errors[name])
    for name, why in skipped.items():
        row["sides"].setdefault(name, {"skipped": why})
    return row


def time_variants(torch, bench, shape, rungs):
    """Every variant, and splits and packings around the chosen ones, of each rung that does the shape."""
    warm, _ = set_counts(shape, bench.l2_bytes)
    sets, found = Sets(torch, shape, warm), []
    torch.cuda.synchronize()
    for rung in rungs:
        sides, seen = {}, set()
        splits = (0, 1, 2, 4, 8, 16, 32) if shape.q_len * shape.batch * shape.q_heads < 1 << 14 else (0, 1)
        wishes = [dict(variant=v, split_count=n) for v in range(bench.library.variant_count(rung)) for n in splits]
        wishes += [dict(packed_heads=n) for n in (1, shape.q_heads // shape.kv_heads)]
        for wish in wishes:
            try:
                side = Ours(torch, bench.library, bench.device, rung, sets, **wish)
            except abi.Unsupported:
                continue
            name = (side.plan.variant, side.plan.split_count, side.plan.packed_heads)
            if name not in seen:
                seen.add(name)
                sides["%s v%d s%d p%d" % ((rung,) + name)] = (side, bench.timer.once_us(side))
        if not sides:
            continue
        fastest = min(us for _, us in sides.values())
        times = bench.timer.turns({n: s for n, s in sides.items() if s[1] < 4 * fastest}, warm)
        chosen = bench.library.plan(bench.device, rung, problem_of(shape))
        chosen = "%s v%d s%d p%d" % (rung, chosen.variant, chosen.split_count, chosen.packed_heads)
        for name, (us, mhz) in sorted(times.items(), key=lambda item: item[1][0]):
            found.append({"shape": shape.name, "what": name, "us": round(us, 3), "chosen": name == chosen})
            print("%-36s %-28s %9.2f us  %6.1f TFLOP/s%s" % (shape.name, name, us, flops(shape) / us * 1e-6,
                                                          "  <- the plan's" if name == chosen else ""), flush=True)
    return found


# --- the program --------------------------------------------------------------------------------------------------

class Bench:
    """The GPU at hand and how it is timed."""

    def __init__(self, torch, library, is_quick):
        properties = torch.cuda.get_device_properties(0)
        self.library, self.is_quick, self.wrong = library, is_quick, 0
        self.device = abi.Device(abi.ENGINE_CUDA, properties.major * 10 + properties.minor, properties.multi_processor_count)
        self.name, self.l2_bytes = properties.name, properties.L2_cache_size
        self.timer = Timer(torch, Clock(), *((2, 5) if is_quick else (3, 7)))


def rungs_for(library, shape):
    able = [rung for rung in library.rungs if rung != "cpu"]
    fast = [rung for rung in able if rung not in SLOW_RUNGS]
    return able if shape.group == "ladder" or not fast else fast


def dry_run(library, chosen):
    """Plans for an H100 everything that would be timed, and looks whether the structs say what they should."""
    device = abi.Device(abi.ENGINE_CUDA, 90, 132)
    for shape in chosen:
        plans = []
        for rung in rungs_for(library, shape):
            try:
                plan = library.plan(device, rung, problem_of(shape))
            except abi.Unsupported:
                continue
            segments, blocks = library.segments(problem_of(shape), plan, tensors_of(shape, 256, 512, 768, 1024, 1280))
            last = segments[shape.batch - 1]
            seen = (last.q_heads, last.kv_heads, last.q_len, last.kv_len, last.split_count, last.packed_heads, last.lse_head_stride,
                    segments[0].lse, plan.head_dim, library.name(plan.kernel))
            if seen != (shape.q_heads, shape.kv_heads, shape.q_len, shape.kv_len, plan.split_count, plan.packed_heads, shape.q_len,
                        1280, shape.head_dim, rung):
                sys.exit("a segment of %s does not say what was asked: %s" % (shape.name, seen))
            plans.append("%s v%d s%d p%d %d blocks" % (rung, plan.variant, plan.split_count, plan.packed_heads, blocks))
        print("%-34s auto: %-8s %s" % (shape.name, library.name(library.plan(device, "auto", problem_of(shape)).kernel),
                                       "; ".join(plans)))
    return 0


def profile(torch, bench, shape, rungs):
    """A few launches of each rung, and nothing else."""
    sets = Sets(torch, shape, 1)
    for rung in rungs:
        side = Ours(torch, bench.library, bench.device, rung, sets)
        for _ in range(3):
            side.call(0, torch.cuda.current_stream().cuda_stream)
        torch.cuda.synchronize()


def save(args, report, is_variants):
    if not args.out:
        return
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    if is_variants:
        (out / ("variants%s.json" % ("-" + args.kernel if args.kernel else ""))).write_text(json.dumps(report, indent=1) + "\n")
        return
    body = ",\n".join(json.dumps(row) for row in report["shapes"])
    head = json.dumps({key: value for key, value in report.items() if key != "shapes"}, indent=1)
    (out / (args.name + ".json")).write_text(head[:-2] + ',\n "shapes": [\n%s\n]}\n' % body)
    (out / (args.name + ".svg")).write_text(kernel_report.chart(report))


def run(args, library, chosen):
    import torch
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    bench = Bench(torch, library, args.quick)
    if args.profile:
        for shape in chosen[:1]:
            profile(torch, bench, shape, [rung for rung in rungs_for(library, shape) if args.kernel in (None, rung)])
        return 0
    digests = {"rungs": {}, "compiler": "unknown"}
    if args.digests and pathlib.Path(args.digests).exists():
        digests = json.loads(pathlib.Path(args.digests).read_text())
    peak, mhz = matmul_peak(torch, bench.timer)
    print("%s, PyTorch %s, cuDNN %s, matmul %.0f TFLOP/s at %d MHz" % (
        bench.name, torch.__version__, torch.backends.cudnn.version(), peak, mhz), flush=True)
    report = {"device": bench.name, "torch": torch.__version__, "cuda": torch.version.cuda,
              "cudnn": torch.backends.cudnn.version(), "compiler": digests["compiler"], "rungs": digests["rungs"],
              "made": time.strftime("%Y-%m-%d"), "quick": args.quick, "peak_tflops": round(peak, 1), "peak_sm_mhz": mhz,
              "what": "us a call: CUDA graph of a linear chain over rotating buffers, median", "shapes": []}
    rows, began = [], time.monotonic()
    for shape in chosen:
        if args.seconds and time.monotonic() - began > args.seconds:
            print("out of time before %s" % shape.name)
            break
        rungs = [rung for rung in rungs_for(library, shape) if args.kernel in (None, rung)]
        if args.variants:
            rows += time_variants(torch, bench, shape, rungs)
        else:
            rows.append(time_shape(torch, bench, shape, rungs))
            print("\n".join(kernel_report.table_lines(dict(report, shapes=rows[-1:]))), flush=True)
            report["shapes"] = rows
            save(args, report, False)  # what a time limit leaves is worth having
        torch.cuda.empty_cache()
    if args.variants:
        save(args, rows, True)
    else:
        report["seconds"] = round(time.monotonic() - began)
        report["peak_tflops_after"] = round(matmul_peak(torch, bench.timer)[0], 1)
        save(args, report, False)
        print("\n".join(kernel_report.target_lines(report)))
    print("%.0f s" % (time.monotonic() - began))
    return 1 if bench.wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="build/flashcore-cuda.so")
    parser.add_argument("--out", help="folder for a .json and a .svg; none: print only")
    parser.add_argument("--name", default="kernels_h100", help="of those files, without their endings")
    parser.add_argument("--digests", default="build/gpu/digests.json", help="of the code the library was made of")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--kernel", help="this rung alone")
    parser.add_argument("--shape", default="", help="only shapes whose names or groups hold this")
    parser.add_argument("--seconds", type=float, help="start no shape after so many")
    args = parser.parse_args()
    library = abi.Library(args.library)
    chosen = [s for s in shapes(args.quick or args.variants) if args.shape in s.name or args.shape == s.group]
    chosen.sort(key=lambda s: s.name != args.shape)  # the one of just that name first
    return dry_run(library, chosen) if args.dry_run else run(args, library, chosen)


if __name__ == "__main__":
    sys.exit(main())
