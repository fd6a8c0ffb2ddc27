"""Attention from PROTOCOL.md section 4, in numpy and double precision, and how far an answer may be from it.

Written from the protocol's text alone; nothing here is shared with the C reference.
"""
import numpy

UNIT_ROUNDOFF = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": 2.0**-24}


def encode(values, dtype):
    """Bytes of the values in a wire dtype, rounded to nearest even."""
    values = numpy.ascontiguousarray(values, dtype=numpy.float32)
    if dtype == "f16":
        return values.astype("<f2").tobytes()
    if dtype == "bf16":
        bits = values.view(numpy.uint32).astype(numpy.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return numpy.where(numpy.isnan(values), 0x7FC0, rounded).astype("<u2").tobytes()
    return values.astype("<f4").tobytes()


def decode(data, dtype, shape):
    """The values as float64."""
    if dtype == "f16":
        flat = numpy.frombuffer(data, "<f2")
    elif dtype == "bf16":
        flat = (numpy.frombuffer(data, "<u2").astype(numpy.uint32) << 16).view(numpy.float32)
    else:
        flat = numpy.frombuffer(data, "<f4")
    return flat.astype(numpy.float64).reshape(shape)


def visible(causal, window, q_len, n, kv_tokens):
    """Section 4.2: [q_len, kv_tokens] of bool."""
    i = numpy.arange(q_len)[:, None]
    j = numpy.arange(kv_tokens)[None, :]
    position = i if causal == "top_left" else i + n - q_len
    seen = (j < n) & numpy.ones((q_len, 1), bool)
    if causal != "none":
        seen &= j <= position
    if window[0] >= 0:
        seen &= j >= position - window[0]
    if window[1] >= 0:
        seen &= j <= position + window[1]
    return seen


def product(a, b):
    """a @ b; in float32 as a plain loop sums it, one product after the other: a BLAS has an order of its own, and so
    another error, on every kind of processor."""
    if a.dtype == numpy.float64:
        return a @ b
    total = numpy.zeros((a.shape[0], b.shape[1]), a.dtype)
    for i in range(a.shape[1]):
        total += a[:, i : i + 1] * b[i : i + 1]
    return total


def attention(q, k, v, *, causal="none", window=(-1, -1), scale=None, softcap=0.0, kv_len=None, dtype=None):
    """q, k, v: [batch, heads, tokens, head_dim]. dtype None: in float64. Else the plain implementation whose error sets
    the tolerance: scores in float32, P rounded to the dtype, P V in float32, out rounded to the dtype."""
    real = numpy.float64 if dtype is None else numpy.float32
    batch, q_heads, q_len, head_dim = q.shape
    kv_heads, kv_tokens = k.shape[1], k.shape[2]
    scale = real(numpy.float32(head_dim**-0.5) if scale is None else numpy.float32(scale))
    out = numpy.zeros(q.shape, real)
    lse = numpy.full(q.shape[:3], -numpy.inf, real)
    for b in range(batch):
        n = kv_tokens if kv_len is None else kv_len[b]
        seen = visible(causal, window, q_len, n, kv_tokens)[:, :n]
        for h in range(q_heads):
            g = h * kv_heads // q_heads
            if n == 0 or q_len == 0:
                continue
            s = product(q[b, h].astype(real), k[b, g, :n].astype(real).T) * scale
            if softcap > 0:
                s = real(softcap) * numpy.tanh(s / real(softcap))
            s = numpy.where(seen, s, -numpy.inf)
            rows = seen.any(axis=1)
            top = numpy.where(rows, s.max(axis=1, initial=-numpy.inf), 0)[:, None]
            e = numpy.exp(s - top)
            total = e.sum(axis=1, keepdims=True)
            p = e / numpy.where(total > 0, total, 1)
            if dtype is not None:
                p = decode(encode(p, dtype), dtype, p.shape).astype(real)
            out[b, h] = product(p, v[b, g, :n].astype(real))
            with numpy.errstate(divide="ignore"):
                lse[b, h] = numpy.where(rows, top[:, 0] + numpy.log(total[:, 0]), -numpy.inf)
    if dtype is not None:
        out = decode(encode(out, dtype), dtype, out.shape)
    return out.astype(numpy.float64), lse.astype(numpy.float64)


def errors(got, want):
    """Relative Frobenius and largest absolute error; entries that are the same infinity agree."""
    same = numpy.isinf(want) & (got == want)
    difference = numpy.where(same, 0, got - numpy.where(same, 0, want))
    norm = numpy.linalg.norm(numpy.where(same, 0, want))
    return numpy.linalg.norm(difference) / norm if norm > 0 else numpy.linalg.norm(difference), numpy.abs(
        difference
    ).max(initial=0.0)


def check(case, got, want, plain, dtype):
    """At most twice what the plain implementation errs, plus one rounding of the dtype at the largest value."""
    got_errors, plain_errors = errors(got, want), errors(plain, want)
    unit = 2 * UNIT_ROUNDOFF[dtype]
    largest = numpy.abs(want[numpy.isfinite(want)]).max(initial=0.0)
    case.assertFalse(numpy.isnan(got).any(), "NaN in the answer")
    case.assertLessEqual(got_errors[0], 2 * plain_errors[0] + unit, "relative error")
    case.assertLessEqual(got_errors[1], 2 * plain_errors[1] + unit * largest, "largest error")
