"""The kernels' C ABI (kernels/cuda_api.h, kernels/attention.h) for Python: the structs, mirrored once, and the calls.

Device memory stays the caller's: whatever has an address will do. Needs Python alone, so that plans can also be asked for
where there is no GPU, of flashcore-cuda.so or of the tests' fake of it.
"""
import ctypes
import os
from ctypes import (POINTER, Structure, byref, c_char, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_uint64,
                    c_void_p)

OK, UNSUPPORTED = "ok", "unsupported"
F16, BF16, F32 = range(3)
NONE, TOP_LEFT, BOTTOM_RIGHT = range(3)
ENGINE_CUDA = 1


class Problem(Structure):
    _fields_ = [("dtype", c_int32), ("causal", c_int32), ("batch", c_int32), ("q_heads", c_int32), ("kv_heads", c_int32),
                ("q_len", c_int32), ("kv_len", c_int32), ("head_dim", c_int32), ("kv_lens", c_void_p),
                ("window_left", c_int64), ("window_right", c_int64), ("scale", c_float), ("softcap", c_float)]


class Strides(Structure):
    _fields_ = [("batch", c_int64), ("head", c_int64), ("token", c_int64)]


class Tensors(Structure):
    _fields_ = [("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("out", c_void_p), ("lse", c_void_p),
                ("q_strides", Strides), ("k_strides", Strides), ("v_strides", Strides), ("out_strides", Strides)]


class Segment(Structure):
    _fields_ = [("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("out", c_void_p), ("lse", c_void_p)]
    _fields_ += [("%s_%s_stride" % (tensor, axis), c_int64) for tensor in ("q", "k", "v", "out")
                 for axis in ("head", "token")]
    _fields_ += [("lse_head_stride", c_int64), ("key_begin_offset", c_int64), ("key_end_offset", c_int64),
                 ("q_heads", c_int32), ("kv_heads", c_int32), ("q_len", c_int32), ("kv_len", c_int32),
                 ("scale", c_float), ("softcap", c_float), ("packed_heads", c_int32), ("split_count", c_uint32),
                 ("first_block", c_uint32), ("first_ticket", c_uint32), ("workspace_offset", c_uint64)]


class Plan(Structure):
    _fields_ = [("kernel", c_int32), ("dtype", c_int32), ("head_dim", c_int32), ("variant", c_uint32),
                ("q_tile_rows", c_uint32), ("packed_heads", c_int32), ("split_count", c_uint32),
                ("ticket_count", c_uint32), ("workspace_bytes", c_size_t), ("descriptor_bytes", c_uint32)]


class PlanWish(Structure):
    _fields_ = [("variant", c_int32), ("split_count", c_uint32), ("packed_heads", c_int32)]


class Device(Structure):
    _fields_ = [("engine", c_int32), ("compute_capability", c_int32), ("processor_count", c_int32)]


class Launch(Structure):
    _fields_ = [("plan", Plan), ("segments", POINTER(Segment)), ("d_segments", c_void_p), ("segment_count", c_uint32),
                ("block_count", c_uint32), ("d_workspace", c_void_p), ("workspace_bytes", c_size_t),
                ("d_tickets", c_void_p), ("descriptors", c_void_p), ("d_descriptors", c_void_p)]


class Reason(Structure):
    _fields_ = [("text", c_char * 240)]


MIRRORED = {"fc_problem": Problem, "fc_tensors": Tensors, "fc_segment": Segment, "fc_plan": Plan, "fc_plan_wish": PlanWish,
            "fc_device": Device, "fc_launch": Launch, "fc_reason": Reason}


class Unsupported(Exception):
    """The rung cannot do the problem; the text says which can."""


class Library:
    """flashcore-cuda.so. Raises RuntimeError when its structs are not the ones mirrored here."""

    def __init__(self, path):
        self.lib = lib = ctypes.CDLL(os.path.abspath(path), mode=ctypes.RTLD_LOCAL)
        lib.flashcore_struct_bytes.argtypes, lib.flashcore_struct_bytes.restype = [c_char_p], c_size_t
        lib.flashcore_kernel_name.argtypes, lib.flashcore_kernel_name.restype = [c_int32], c_char_p
        lib.flashcore_kernel_variant_count.argtypes = [c_int32]
        lib.flashcore_kernel_variant_count.restype = c_uint32
        lib.flashcore_plan_make.argtypes = [POINTER(Device), c_int32, POINTER(Problem), POINTER(Plan), POINTER(Reason)]
        lib.flashcore_plan_make_as.argtypes = [POINTER(Device), c_int32, POINTER(PlanWish), POINTER(Problem),
                                               POINTER(Plan), POINTER(Reason)]
        lib.flashcore_problem_segments.argtypes = [POINTER(Problem), POINTER(Plan), POINTER(Tensors), POINTER(Segment)]
        lib.flashcore_problem_segments.restype = None
        lib.flashcore_launch_index.argtypes = [POINTER(Plan), POINTER(Segment), c_uint32]
        lib.flashcore_launch_index.restype = c_uint32
        lib.flashcore_launch_describe.argtypes = [POINTER(Launch), c_void_p]
        lib.flashcore_kernel_launch.argtypes = [POINTER(Launch), c_void_p]
        self.check_structs()
        self.rungs = []
        while self.name(len(self.rungs)) != "unknown" and self.name(len(self.rungs)) != "auto":
            self.rungs.append(self.name(len(self.rungs)))
        self.auto = len(self.rungs) + 1  # fc_kernel: the rungs, their count, auto

    def check_structs(self):
        for name, mirror in MIRRORED.items():
            there = self.lib.flashcore_struct_bytes(name.encode())
            if there != ctypes.sizeof(mirror):
                raise RuntimeError("%s has %d bytes in the library and %d in flashcore_abi.py" % (
                    name, there, ctypes.sizeof(mirror)))

    def name(self, kernel):
        return self.lib.flashcore_kernel_name(kernel).decode()

    def variant_count(self, rung):
        return self.lib.flashcore_kernel_variant_count(self.rungs.index(rung))

    def plan(self, device, rung, problem, variant=-1, split_count=0, packed_heads=0):
        """A plan of the rung ("auto": whichever the library chooses). Raises Unsupported, or ValueError."""
        plan, reason = Plan(), Reason()
        if rung == "auto":
            status = self.lib.flashcore_plan_make(byref(device), self.auto, byref(problem), byref(plan), byref(reason))
        else:
            wish = PlanWish(variant, split_count, packed_heads)
            status = self.lib.flashcore_plan_make_as(byref(device), self.rungs.index(rung), byref(wish), byref(problem),
                                                     byref(plan), byref(reason))
        if status == 0:
            return plan
        text = reason.text.decode()
        raise Unsupported(text)

    def segments(self, problem, plan, tensors):
        """The host array of segments, numbered, and the launch's count of blocks."""
        array = (Segment * problem.batch)()
        self.lib.flashcore_problem_segments(byref(problem), byref(plan), byref(tensors), array)
        return array, self.lib.flashcore_launch_index(byref(plan), array, problem.batch)

    def describe(self, launch):
        """launch's descriptors, a ctypes array of bytes."""
        data = ctypes.create_string_buffer(launch.segment_count * launch.plan.descriptor_bytes)
        if self.lib.flashcore_launch_describe(byref(launch), data) != 0:
            raise RuntimeError("the driver refused to make the descriptors")
        return data

    def launch(self, launch, stream):
        status = self.lib.flashcore_kernel_launch(byref(launch), stream)
        if status != 0:
            raise RuntimeError("%s: the launch failed, status %d" % (self.name(launch.plan.kernel), status))

    def chosen_by_auto(self, devices=((80, 108), (86, 84), (89, 58), (90, 132), (100, 148))):
        """Names of all rungs that auto chooses for some problem on some of the devices (capability, processors)."""
        lengths, found = (1, 4, 33, 128, 512, 1024, 4096, 16384), set()
        for capability, processors in devices:
            device = Device(ENGINE_CUDA, capability, processors)
            for dtype in (F16, BF16, F32):
                for head_dim in (8, 64, 72, 96, 128, 192, 256):
                    for q_len in lengths:
                        for kv_len in lengths:
                            for batch, kv_heads in ((1, 8), (1, 1), (32, 8)):
                                asked = problem(dtype, NONE, batch, 8, kv_heads, q_len, kv_len, head_dim)
                                found.add(self.name(self.plan(device, "auto", asked).kernel))
        return sorted(found)


def problem(dtype, causal, batch, q_heads, kv_heads, q_len, kv_len, head_dim):
    """With nothing but a causal mask, and the usual scale."""
    return Problem(dtype, causal, batch, q_heads, kv_heads, q_len, kv_len, head_dim, None, -1, -1, head_dim ** -0.5, 0.0)


def contiguous(heads, tokens, head_dim):
    """The strides of a contiguous [batch, heads, tokens, head_dim] tensor."""
    return Strides(heads * tokens * head_dim, tokens * head_dim, head_dim)
