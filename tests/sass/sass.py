"""Reads the machine code of a CUDA binary: every kernel's resources, and every instruction with its source lines.

Uses NVIDIA's cuobjdump and nvdisasm (PyPI: nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm), and binutils' c++filt for
names. Nothing is decided here.
"""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


@dataclasses.dataclass(frozen=True)
class Instruction:
    address: int  # bytes from the kernel's start; 16 an instruction
    predicate: str  # "@!P0", or ""
    opcode: str  # "LDG.E.128.CONSTANT"
    operands: tuple  # ("R4", "[R2.64+0x10]")
    lines: tuple  # (file name, line), innermost first, outwards along the inlining

    @property
    def base(self):
        return self.opcode.split(".")[0]

    @property
    def target(self):
        """The address a branch goes to, else None."""
        if self.base != "BRA":
            return None
        return int(self.operands[-1], 16)


@dataclasses.dataclass(frozen=True)
class Kernel:
    unit: str  # the source file's stem: "vec" of kernels/vec.cu
    arch: str  # "sm_89"
    name: str  # "vec_kernel<__half>"
    registers: int
    stack: int  # bytes a thread
    local: int  # bytes a thread
    shared: int  # bytes a block, the static part
    instructions: tuple

    def count(self, pattern):
        """Instructions whose opcode the pattern matches from its start."""
        matches = re.compile(pattern).match
        return sum(1 for i in self.instructions if matches(i.opcode))


def find_tool(name):
    for folder in sys.path:
        for found in sorted(pathlib.Path(folder).glob(f"nvidia/*/bin/{name}")):
            return str(found)
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name}: not in this Python's packages (tests/sass/requirements.txt) nor in PATH")
    return found


def output_of(*command, folder=None):
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def short_name(symbol):
    """vec_kernel<__half> of what c++filt makes of a kernel's symbol."""
    name = output_of("c++filt", symbol).strip()
    name = re.sub(r"\(anonymous namespace\)::", "", name)
    name = re.sub(r"^void ", "", name)
    depth = 0
    for at, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:at]
    return name


def resources_of(cubin):
    """{symbol: {"REG": .., "STACK": .., "SHARED": .., "LOCAL": ..}}"""
    found, symbol = {}, None
    for line in output_of(find_tool("cuobjdump"), "-res-usage", cubin).splitlines():
        if match := re.match(r"\s*Function (\S+):", line):
            symbol = match.group(1)
        elif "REG:" in line:
            found[symbol] = {key: int(value) for key, value in re.findall(r"([A-Z]+):(\d+)", line)}
    return found


SECTION = re.compile(r"\s*\.section\s+([^,\s]+)")
LINE = re.compile(r'\s*//## File "([^"]*)", line (\d+)( inlined at)?')
CODE = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:\{\s*)?(@!?U?P\S+\s+)?([A-Z][A-Z0-9_.]*)\s*(.*?)\s*;")
LABEL = re.compile(r"(\.L_x_\d+):")


def parse(text):
    """{symbol: [Instruction]} of nvdisasm's listing. Branch targets become addresses."""
    kernels, labels, code, lines, pending, is_new = {}, {}, None, (), [], True
    for row in text.splitlines():
        if match := SECTION.match(row):
            is_code = match.group(1).startswith(".text.")
            code = kernels.setdefault(match.group(1).removeprefix(".text."), []) if is_code else None
        elif code is None:
            continue
        elif match := LINE.match(row):
            if is_new:
                lines, is_new = (), False
            lines += ((pathlib.PurePath(match.group(1)).name, int(match.group(2))),)
        elif match := LABEL.match(row):
            pending.append(match.group(1))
        elif match := CODE.match(row):
            address, predicate, opcode, operands = match.groups()
            for label in pending:
                labels[label] = int(address, 16)
            pending, is_new = [], True
            operands = tuple(o.strip() for o in operands.split(",")) if operands else ()
            code.append(Instruction(int(address, 16), (predicate or "").strip(), opcode, operands, lines))
    resolve = lambda operand: hex(labels[operand[2:-1]]) if operand.startswith("`(.L_x_") else operand
    return {symbol: [dataclasses.replace(i, operands=i.operands[:-1] + (resolve(i.operands[-1]),))
                     if i.base == "BRA" else i for i in code] for symbol, code in kernels.items()}


def read(binary, arches=None):
    """All kernels of a shared object, an object file or a cubin; arches: only those."""
    kernels = []
    with tempfile.TemporaryDirectory() as folder:
        output_of(find_tool("cuobjdump"), "-xelf", "all", str(pathlib.Path(binary).resolve()), folder=folder)
        for cubin in sorted(pathlib.Path(folder).glob("*.cubin")):
            unit, arch = cubin.name.split(".")[0], cubin.name.split(".")[-2]
            resources = resources_of(str(cubin))
            if not resources or (arches and arch not in arches):
                continue
            code = parse(output_of(find_tool("nvdisasm"), "-c", "-gi", str(cubin)))
            for symbol, r in resources.items():
                kernels.append(Kernel(unit, arch, short_name(symbol), r["REG"], r["STACK"], r["LOCAL"], r["SHARED"],
                                      tuple(code[symbol])))
    return kernels
