"""Judges the machine code of the CUDA engine, kernel by kernel: check.py BINARY [--expect UNIT ...]

Prints a table of every kernel, then every rule a kernel breaks, by name. Exits with 1 when one does. --expect names the
units (kernels/UNIT.cu) that must be in the binary, so that nothing passes by not having been found.
"""

import argparse
import fnmatch
import sys

import sass
import tiles

TARGETS = ("sm_80", "sm_89", "sm_90a")

# What is counted of every kernel: heading, opcodes.
COUNTS = (
    ("HMMA", r"HMMA\."),
    ("HGMMA", r"HGMMA\."),
    ("LDGSTS", r"LDGSTS\."),
    ("TMA", r"UTMALDG"),
    ("LDSM", r"LDSM\."),
    ("LDG.128", r"LDG\.E\.(\S*\.)?128"),
    ("MUFU", r"MUFU\."),
    ("SHFL", r"SHFL\."),
)

REGISTERS_PER_SM = 65536
REGISTER_STEP = 8  # a thread's registers are handed out in eights


def needs(pattern):
    return lambda kernel: kernel.count(pattern) > 0


def is_free_of(pattern):
    return lambda kernel: kernel.count(pattern) == 0


def copies_are_wide(kernel):
    return kernel.count(r"LDGSTS\.E\.(\S*\.)?128") == kernel.count(r"LDGSTS\.") > 0


def products_overlap(kernel):
    """Where ptxas serialises wgmma, every one of them is waited for before the next."""
    waited = sum(1 for i in kernel.instructions if i.base == "HGMMA" and "gsb0" in i.operands)
    return 2 * waited <= kernel.count(r"HGMMA\.")


def fits_its_row(kernel):
    """The table's row says how many blocks share an SM; the registers have to allow it."""
    row = tiles.find(kernel)
    if row is None or row.blocks_an_sm == 0:
        return True
    a_thread = -(-kernel.registers // REGISTER_STEP) * REGISTER_STEP
    return a_thread * row.threads * row.blocks_an_sm <= REGISTERS_PER_SM


# (units, targets, what must hold, its test). Units are the stems of kernels/*.cu.
RULES = (
    ("*", "*", "no stack frame", lambda kernel: kernel.stack == 0),
    ("*", "*", "no local memory", lambda kernel: kernel.local == 0 and kernel.count(r"(LDL|STL)\b") == 0),
    ("vec", "*", "loads of 16 bytes", needs(r"LDG\.E\.(\S*\.)?128")),
    ("warp", "*", "loads of 16 bytes", needs(r"LDG\.E\.(\S*\.)?128")),
    ("warp", "*", "shuffles", needs(r"SHFL\.")),
    ("tc", "*", "tensor-core instructions", needs(r"HMMA\.")),
    ("tc", "*", "asynchronous copies, all of 16 bytes", copies_are_wide),
    ("fused", "*", "tensor-core instructions", needs(r"HMMA\.")),
    ("fused", "*", "asynchronous copies, all of 16 bytes", copies_are_wide),
    ("fused", "*", "matrix loads from shared memory", needs(r"LDSM\.")),
    ("*", "*", "no more registers than the blocks an SM of its row allow", fits_its_row),
    ("*", "*", "no fp32 product rounded to tf32", is_free_of(r"HG?MMA\.\S*TF32")),
    ("hopper", "sm_90a", "warpgroup products", needs(r"HGMMA\.")),
    ("hopper", "sm_90a", "tensor-map copies", needs(r"UTMALDG")),
    ("hopper", "sm_90a", "warpgroup products that overlap", products_overlap),
)


def broken_rules(kernel):
    return [what for units, arches, what, holds in RULES
            if fnmatch.fnmatch(kernel.unit, units) and fnmatch.fnmatch(kernel.arch, arches) and not holds(kernel)]


def table(kernels):
    rows = [("kernel", "target", "regs", "shared", "stack", "local", *(name for name, _ in COUNTS), "all")]
    for k in kernels:
        counts = (k.count(pattern) for _, pattern in COUNTS)
        rows.append((f"{k.unit}: {k.name}", k.arch, k.registers, k.shared, k.stack, k.local, *counts,
                     len(k.instructions)))
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield str(row[0]).ljust(widths[0]) + "".join(str(c).rjust(w + 2) for c, w in zip(row[1:], widths[1:]))


def absent(kernels, units):
    """What should be in the binary and is not, and kernels no row of their table stands for."""
    for unit in units:
        for arch in tiles.targets_of(unit, TARGETS):
            here = [k for k in kernels if k.unit == unit and k.arch == arch]
            if not here:
                yield f"kernels/{unit}.cu: no kernel for {arch} in the binary"
            for row in tiles.rows_of(unit):
                for dtype in tiles.types_of(unit):
                    if not any(row.names(k, dtype) for k in here):
                        yield f"{row}: no {dtype} kernel for {arch} in the binary"
        for kernel in kernels:
            if kernel.unit == unit and tiles.rows_of(unit) and tiles.find(kernel) is None:
                yield f"{unit}: {kernel.name} ({kernel.arch}): in no row of kernels/{unit}.def"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--expect", nargs="*", default=[])
    arguments = parser.parse_args()
    kernels = sass.read(arguments.binary)
    print("\n".join(table(kernels)))
    findings = list(absent(kernels, arguments.expect))
    passed = 0
    for kernel in kernels:
        broken = broken_rules(kernel)
        passed += not broken
        findings += [f"{kernel.unit}: {kernel.name} ({kernel.arch}): has to have {what}" for what in broken]
    for finding in findings:
        print(f"FAIL  {finding}")
    print(f"{passed} passed, {len(findings)} failed")
    return 1 if findings or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
