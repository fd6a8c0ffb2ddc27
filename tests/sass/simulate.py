"""How long one SM takes over its blocks: the warps' instructions (trace.py) on the machine's pipes (machine.py).

Each warp issues in order, as soon as the registers it reads are there, its pipe is free and its scheduler has a slot;
the scheduler takes the warp that can go first. Shared memory, L1 and the way to L2 are queues of the SM. Barriers wait
for the block, DEPBAR for this warp's copies. What is left out: bank conflicts, instruction fetch, register banks, the
other SMs but for their number, the GPU's other work.
"""

import collections
import heapq
import re

import machine as machines
import trace

WIDE = {"64": 2, "128": 4, "WIDE": 2}


def registers_in(operand, width):
    """R4 and the registers after it, as many as the width says; address operands name their own."""
    found = []
    for kind, number, suffix in re.findall(r"\b(UR|R|UP|P)(\d+)(\.64)?", operand):
        wide = 2 if suffix else width
        found += [kind + str(int(number) + i) for i in range(wide)]
    return found


def width_of(opcode):
    for part in opcode.split(".")[1:]:
        if part in WIDE:
            return WIDE[part]
    return 1


def operand_widths(opcode, count):
    """Registers of each operand: HMMA's a, b, c, d; the last of a load's; the data of a store."""
    base, width = opcode.split(".")[0], width_of(opcode)
    if base == "HMMA":
        return [4, 4 if "16816" in opcode else 2, 2 if "16816" in opcode else 1, 4][:count]
    if base == "LDSM":
        return [int(opcode.rsplit(".", 1)[1]) if opcode.rsplit(".", 1)[1].isdigit() else 1] + [1] * (count - 1)
    if base in ("STS", "STG", "ST"):
        return [1] + [width] * (count - 1)
    if base == "CS2R" and "32" not in opcode:
        return [2] + [1] * (count - 1)
    if base == "IMAD" and width == 2:
        return [2, 1, 1, 2][:count]
    return [width if base in ("LDS", "LDG", "LD", "LDC", "ULDC") else 1] + [1] * (count - 1)


STORES = {"STS", "STG", "ST", "BRA", "BAR", "EXIT", "LDGSTS", "DEPBAR", "LDGDEPBAR", "BSSY", "BSYNC", "NOP", "RED",
          "CALL", "RET", "WARPSYNC", "MEMBAR", "CCTL", "ERRBAR"}


def pipe_of(machine, opcode):
    for pattern, pipe, cycles, latency in machines.PIPES:
        if re.match(pattern, opcode):
            cycles = {"tensor": machine.tensor_cycles, "tensor/2": machine.tensor_cycles / 2,
                      "half": machine.half_cycles}.get(cycles, cycles)
            return pipe, cycles, latency
    raise ValueError(opcode)


class Step:
    """An instruction as the simulation wants it."""

    __slots__ = ("base", "pipe", "cycles", "latency", "reads", "writes", "near", "l2_bytes", "miss_every", "sector",
                 "pending")

    def __init__(self, machine, instruction, rung):
        self.base = instruction.base
        self.pipe, self.cycles, self.latency = pipe_of(machine, instruction.opcode)
        operands = list(instruction.operands)
        widths = operand_widths(instruction.opcode, len(operands))
        named = [registers_in(o, w) for o, w in zip(operands, widths)]
        writes = []
        if self.base not in STORES:
            while named and operands[0].lstrip("!@").startswith(("P", "UP")):
                writes += named.pop(0)
                operands.pop(0)
            if named:
                writes += named.pop(0)
        self.writes = tuple(writes)
        reads = registers_in(instruction.predicate, 1) if instruction.predicate else []
        self.reads = tuple(set(reads + [r for group in named for r in group]))
        self.near = self.l2_bytes = self.miss_every = self.pending = 0
        self.sector = None
        if self.pipe == "mio":
            self.memory(machine, instruction, rung)
        if self.base == "DEPBAR":
            match = re.search(r"0x([0-9a-f]+)", instruction.operands[-1])
            self.pending = int(match.group(1), 16) if match else 0

    def memory(self, machine, instruction, rung):
        width = width_of(instruction.opcode)
        functions = trace.functions_of(instruction)
        if self.base == "LDS":
            self.near, self.latency = rung.shared_cycles(functions, width), machine.shared_latency + width - 1
            self.cycles = max(self.cycles, width)
        elif self.base == "STS":
            self.near, self.latency = width, machine.shared_latency
        elif self.base == "LDSM":
            self.near = operand_widths(instruction.opcode, 1)[0]
            self.latency = machine.shared_latency + 3
        elif self.base == "SHFL":
            self.near, self.latency = 1, 23
        elif self.base in ("S2R", "S2UR"):
            self.latency = 20
        elif self.base == "LD":  # of what is known at run time alone to be in shared memory
            self.near, self.latency = 1, machine.shared_latency + 5
        elif self.base == "LDG":
            self.latency = machine.l1_latency
            access = rung.access(functions, width)
            if access is None:
                match = re.search(r"\+(0x[0-9a-f]+)\]", instruction.operands[-1])
                self.sector = (int(match.group(1), 16) if match else 0) // 32
                access = 1, 0, 32
            self.near, self.miss_every, self.l2_bytes = access
        elif self.base == "LDGSTS":
            self.near, self.miss_every, self.l2_bytes = 4, 1, 512
        else:
            self.near = width


class Sm:
    """One SM at work. run() returns cycles until the last block has ended."""

    def __init__(self, machine, steps, order, warps, resident, copies=None):
        self.machine, self.steps, self.order = machine, steps, order
        self.copies = copies  # a warp's that read something; None: all
        self.warps_a_block, self.resident = warps, resident
        self.near_free = self.l2_free = 0.0
        self.pipes = [collections.defaultdict(float) for _ in range(4)]
        self.issue_free = [0.0] * 4
        self.issued = 0
        self.end = 0.0
        self.heap, self.serial = [], 0
        self.sectors = set()  # of segments, in L1

    def push(self, time, warp):
        self.serial += 1
        heapq.heappush(self.heap, (time, self.serial, warp))

    def start_block(self, time, block):
        gate = {"waiting": [], "left": self.warps_a_block}
        for index in range(self.warps_a_block):
            warp = {"at": 0, "ready": {}, "scheduler": (block * self.warps_a_block + index) % 4, "gate": gate,
                    "copies": [], "copied": 0, "groups": [], "touched": {}}
            self.push(time, warp)

    def run(self, blocks):
        self.left = blocks
        for block in range(min(self.resident, blocks)):
            self.left -= 1
            self.start_block(0.0, block)
        while self.heap:
            time, _, warp = heapq.heappop(self.heap)
            self.advance(time, warp)
        return self.end

    def advance(self, time, warp):
        step = self.steps[self.order[warp["at"]]]
        scheduler = warp["scheduler"]
        earliest = max(time, self.issue_free[scheduler])
        ready = warp["ready"]
        for register in step.reads:
            earliest = max(earliest, ready.get(register, 0.0))
        for register in step.writes:
            earliest = max(earliest, ready.get(register, 0.0) - step.latency)
        if step.pipe is not None:
            earliest = max(earliest, self.pipes[scheduler][step.pipe])
        if step.base == "DEPBAR" and len(warp["groups"]) > step.pending:
            earliest = max(earliest, *warp["groups"][: len(warp["groups"]) - step.pending])
        if earliest > time:
            self.push(earliest, warp)
            return
        self.issued += 1
        self.issue_free[scheduler] = earliest + 1
        if step.pipe is not None:
            self.pipes[scheduler][step.pipe] = earliest + step.cycles
        self.finish(step, warp, earliest)

    def finish(self, step, warp, now):
        done = now + step.latency
        if step.base == "LDGSTS":
            warp["copied"] += 1
        is_idle = step.base == "LDGSTS" and self.copies is not None and warp["copied"] > self.copies
        if step.near and not is_idle:
            self.near_free = max(self.near_free, now) + step.near
            done = max(done, self.near_free + step.latency - 1)
        if not is_idle and self.misses(step, warp):
            self.l2_free = max(self.l2_free, now) + step.l2_bytes / self.machine.l2_bytes
            done = max(done, self.l2_free + self.machine.l2_latency)
        if step.base == "LDGSTS":
            warp["copies"].append(done)
        elif step.base == "LDGDEPBAR":
            warp["groups"].append(max(warp["copies"], default=now))
            warp["copies"] = []
        for register in step.writes:
            warp["ready"][register] = done
        warp["at"] += 1
        if step.base == "BAR":
            self.barrier(warp, now)
        elif warp["at"] == len(self.order):
            self.leave(warp, now)
        else:
            self.push(now + 1, warp)

    def misses(self, step, warp):
        if step.sector is not None:
            is_new = step.sector not in self.sectors
            self.sectors.add(step.sector)
            return is_new
        if not step.miss_every:
            return False
        seen = warp["touched"]
        seen[step] = seen.get(step, -1) + 1
        return seen[step] % step.miss_every == 0

    def barrier(self, warp, now):
        gate = warp["gate"]
        gate["waiting"].append(warp)
        if len(gate["waiting"]) == self.warps_a_block:
            for waiting in gate["waiting"]:
                self.push(now + 12, waiting)
            gate["waiting"] = []

    def leave(self, warp, now):
        self.end = max(self.end, now)
        warp["gate"]["left"] -= 1
        if warp["gate"]["left"] == 0 and self.left > 0:
            self.left -= 1
            self.start_block(now + 100, self.left)
