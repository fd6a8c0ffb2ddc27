"""The two GPUs of the model, in cycles of their SM clock. docs/l4.md says where the figures are from.

An SM has four schedulers; each issues one instruction a cycle and has pipes of its own (PIPES: cycles that one warp's
instruction keeps its pipe). The path to shared memory and L1 is one for the SM ("far": 128 bytes a cycle), and so is its
share of L2.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Machine:
    name: str
    arch: str
    sms: int
    clock_mhz: float
    tensor_cycles: float  # of a scheduler's tensor core for one HMMA.16816 (2048 multiply-adds)
    half_cycles: float  # HADD2, HMUL2, HFMA2
    shared_latency: int
    l1_latency: int
    l2_latency: int
    l2_bytes: float  # a cycle, of one SM while all others load too
    shared_bytes: int  # of an SM, for its blocks
    threads: int  # of an SM
    blocks: int  # of an SM
    gap_us: float  # from one launch to the next in a chain, beside the blocks' own time
    call_us: float  # launch and synchronise, around the kernel


# 121 TFLOP/s are 58 SMs x 2040 MHz x 512 multiply-adds: 128 a scheduler, so 16 cycles for 2048.
L4_BOOST = Machine("L4 at 2040 MHz", "sm_89", 58, 2040, tensor_cycles=16, half_cycles=2, shared_latency=30,
                   l1_latency=43, l2_latency=273, l2_bytes=16, shared_bytes=100 * 1024, threads=1536, blocks=24,
                   gap_us=1.5, call_us=9.8)
# What 52 to 54 TFLOP/s of endless matmul leave of it, at 95 % of the tensor cores' peak.
L4_SUSTAINED = dataclasses.replace(L4_BOOST, name="L4 at 930 MHz", clock_mhz=930)

# mma.sync does not reach wgmma's rate on Hopper (4 cycles for 2048): about 62 % of it.
H100 = Machine("H100", "sm_90a", 132, 1980, tensor_cycles=6.4, half_cycles=1, shared_latency=29, l1_latency=41,
               l2_latency=263, l2_bytes=24, shared_bytes=227 * 1024, threads=2048, blocks=32, gap_us=1.5, call_us=9.8)

# (opcodes, pipe, cycles of it, latency). The first that matches.
PIPES = (
    (r"HMMA\.16816", "tensor", "tensor", 33),
    (r"HMMA\.1688", "tensor", "tensor/2", 25),
    (r"(FFMA|FADD|FMUL|FMNMX3)\b", "fma", 1, 4),
    (r"(HADD2|HMUL2|HFMA2|HMNMX2)\b", "fma", "half", 5),
    (r"IMAD\.MOV", "fma", 1, 4),
    (r"(IMAD|IDP)\b", "heavy", 2, 5),
    (r"MUFU\b", "xu", 8, 20),
    (r"(I2F|F2I|F2F|FRND|POPC|FLO|BREV)\b", "xu", 8, 20),
    (r"(LDSM|LDS|STS|LDG|STG|LDGSTS|LD|ST|ATOMG|RED|SHFL|S2R|S2UR|ATOMS|ATOM|REDG)\b", "mio", 2, 0),
    (r"(BRA|BSSY|BSYNC|EXIT|NOP|CALL|RET|WARPSYNC|BAR|DEPBAR|LDGDEPBAR|MEMBAR|ERRBAR|CCTL|YIELD|NANOSLEEP)\b", None, 0, 0),
    (r"(U[A-Z0-9]+|R2UR|VOTEU|LDC|LDCU|VOTE)\b", "uniform", 2, 10),
    (r".*", "alu", 2, 4),
)
