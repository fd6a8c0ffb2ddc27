"""What the kernels are timed on, and what they are held to. Pure tables.

A shape's group says what it is for: "ladder" is timed on every rung, the others on those that use tensor cores.
"""
from collections import namedtuple

Shape = namedtuple("Shape", "group name dtype batch q_heads kv_heads q_len kv_len head_dim causal quick")

GRID_TOKENS = 16384
GRID_LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
GRID_HEADS = ((64, 32), (128, 16))  # head_dim, heads
SLOW_RUNGS = ("cpu", "baseline", "vec", "warp")


def size(n):
    return "%dk" % (n // 1024) if n % 1024 == 0 else str(n)


def ladder():
    for dtype in ("f16", "bf16", "f32"):
        yield Shape("ladder", "B1 H8 S512 D64 " + dtype, dtype, 1, 8, 8, 512, 512, 64, False, dtype == "f16")


def short():
    for length in (128, 256, 512, 1024, 2048):
        yield Shape("short", "B1 H8 S%d D64" % length, "f16", 1, 8, 8, length, length, 64, False, True)


def grid():
    for head_dim, heads in GRID_HEADS:
        for causal in (False, True):
            for length in GRID_LENGTHS:
                name = "16k tokens H%d D%d S%s%s" % (heads, head_dim, size(length), " causal" if causal else "")
                yield Shape("grid", name, "f16", GRID_TOKENS // length, heads, heads, length, length, head_dim, causal,
                            length in (512, 2048, 16384))


def wide():
    yield Shape("wide", "B4 H8 S4k D256", "f16", 4, 8, 8, 4096, 4096, 256, False, True)


def decode():
    for batch in (1, 4, 16, 64):
        for length in (4096, 16384, 65536):
            yield Shape("decode", "decode B%d Hq32 Hkv8 Sk%s D128" % (batch, size(length)), "f16", batch, 32, 8, 1, length,
                        128, False, (batch, length) in ((1, 4096), (1, 65536), (64, 4096), (16, 16384)))
    yield Shape("decode", "decode B64 Hq32 Hkv8 Sk8k D128", "f16", 64, 32, 8, 1, 8192, 128, False, False)


def shapes(is_quick=False):
    every = [shape for group in (ladder, short, grid, wide, decode) for shape in group()]
    return [shape for shape in every if shape.quick] if is_quick else every


def flops(s):
    return 4.0 * s.batch * s.q_heads * s.q_len * s.kv_len * s.head_dim * (0.5 if s.causal else 1.0)


def kv_bytes(s):
    return 2.0 * s.batch * s.kv_heads * s.kv_len * s.head_dim * (4 if s.dtype == "f32" else 2)


def set_bytes(s):
    """q, k, v and out."""
    return kv_bytes(s) + 2.0 * s.batch * s.q_heads * s.q_len * s.head_dim * (4 if s.dtype == "f32" else 2)


# What warm figures are held to. who: a rung or "best"; whom: sides, the faster one counts; mean: the least geometric mean
# of speed ratios over the shapes, least: the least of any one (None: not asked).
Target = namedtuple("Target", "what group who whom mean least")
TARGETS = [
    Target("fused against FlashAttention-2, grid", "grid", "fused", ("flash",), 1.10, 0.95),
    Target("hopper against cuDNN, grid", "grid", "hopper", ("cudnn",), 1.05, 0.92),
    Target("best rung, B1 H8 S512 D64", "B1 H8 S512 D64", "best", ("flash", "cudnn"), 1.6, None),
    Target("best rung, B1 H8 S128 D64", "B1 H8 S128 D64", "best", ("flash", "cudnn"), 1.2, None),
    Target("best rung, B1 H8 S256 D64", "B1 H8 S256 D64", "best", ("flash", "cudnn"), 1.2, None),
    Target("best rung, B1 H8 S1024 D64", "B1 H8 S1024 D64", "best", ("flash", "cudnn"), 1.1, None),
    Target("best rung, B1 H8 S2048 D64", "B1 H8 S2048 D64", "best", ("flash", "cudnn"), 1.0, None),
    Target("best rung, B4 H8 S4k D256, against cuDNN", "wide", "best", ("cudnn",), 0.95, None),
    Target("best rung, decode", "decode", "best", ("flash", "cudnn"), 1.05, None),
    Target("vec against baseline, benchmark problem", "B1 H8 S512 D64 f16", "vec", ("baseline",), 2.56, None),
    Target("tc against baseline, benchmark problem", "B1 H8 S512 D64 f16", "tc", ("baseline",), 12.7, None),
    Target("fused against baseline, benchmark problem", "B1 H8 S512 D64 f16", "fused", ("baseline",), 23, None),
]
PEERS = ("flash", "cudnn")
