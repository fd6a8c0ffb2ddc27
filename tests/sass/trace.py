"""From a kernel's machine code to the instructions one warp runs, in order.

The walk goes straight through the code, follows unconditional branches, takes conditional ones where more products (or
copies) lie that way, and goes round each loop as often as the rung says (by the source function the loop stands in).
Code that runs only where a request asks for it (softcap's tanh), and what the rung calls cold, is left out. All warps of
a block are taken to run the same.
"""

import dataclasses
import functools
import pathlib
import re

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "kernels"
COLD = re.compile(r"tanhf\(|(/|%) packed\b")  # source lines no instruction of which is run: softcap, packed heads
LONGEST = 2_000_000


@functools.lru_cache(maxsize=None)
def source_of(name):
    found = KERNELS / name
    return tuple(found.read_text().splitlines()) if found.exists() else ()


@functools.lru_cache(maxsize=None)
def function_at(name, line):
    """The function a source line stands in: the last one that began at the margin."""
    rows = source_of(name)
    for row in reversed(rows[:line]):
        if re.match(r"[A-Za-z_].*\(", row) and not row.startswith(("static_assert", "#")):
            row = re.sub(r"__(launch_bounds|align)__\(([^()]|\([^()]*\))*\)", "", row)
            match = re.search(r"(\w+)\(", row)
            if match:
                return match.group(1)
    return ""


def functions_of(instruction):
    """Functions whose source the instruction is of, innermost first."""
    return tuple(filter(None, (function_at(name, line) for name, line in instruction.lines)))


@dataclasses.dataclass(frozen=True)
class Loop:
    start: int  # indices of instructions, both inclusive
    end: int
    function: str  # the source function of its closing branch
    depth: int  # loops around it

    def counts(self, kernel):
        counts = {}
        for i in kernel.instructions[self.start : self.end + 1]:
            counts[i.base] = counts.get(i.base, 0) + 1
        return counts


def is_conditional(i):
    """BRA.DIV and branches on a uniform predicate have it among their operands."""
    return bool(i.predicate) or len(i.operands) > 1


def successors_of(kernel):
    """Of each basic block, {first index: (last index, first indices of the next)}."""
    code = kernel.instructions
    starts = {0}
    for index, i in enumerate(code):
        if i.target is not None:
            starts.add(i.target // 16)
        if i.target is not None or i.base in ("EXIT", "RET"):
            starts.add(index + 1)
    starts = sorted(start for start in starts if start < len(code))
    blocks = {}
    for start, after in zip(starts, starts[1:] + [len(code)]):
        last, following = code[after - 1], []
        if last.target is not None:
            following.append(last.target // 16)
        if after < len(code) and (last.target is None and last.base not in ("EXIT", "RET") or is_conditional(last)):
            following.append(after)
        blocks[start] = (after - 1, following)
    return blocks


def dominators_of(blocks):
    """{block: the nearest block every way to it leads through} (Cooper, Harvey and Kennedy, 2001)."""
    order, seen, stack = [], {0}, [(0, iter(blocks[0][1]))]
    while stack:
        at, following = stack[-1]
        to = next((t for t in following if t not in seen), None)
        if to is None:
            order.append(at)
            stack.pop()
        else:
            seen.add(to)
            stack.append((to, iter(blocks[to][1])))
    number = {block: n for n, block in enumerate(order)}
    before = {block: [] for block in order}
    for block in order:
        for to in blocks[block][1]:
            before[to].append(block)
    nearest, changed = {0: 0}, True
    while changed:
        changed = False
        for block in reversed(order[:-1]):
            meeting = None
            for other in before[block]:
                if other not in nearest:
                    continue
                meeting = other if meeting is None else meeting
                while meeting != other:
                    if number[meeting] < number[other]:
                        meeting = nearest[meeting]
                    else:
                        other = nearest[other]
            if nearest.get(block) != meeting:
                nearest[block], changed = meeting, True
    return nearest


def loops_of(kernel):
    """Natural loops: a branch back to a block that every way to the branch leads through. Shuffles and divisions keep
    parts of theirs behind the end of a kernel, which branch back too, and are none."""
    blocks = successors_of(kernel)
    nearest = dominators_of(blocks)
    ends = {}
    for start, (last, following) in blocks.items():
        for to in following:
            above = start
            while above != to and above in nearest and above != nearest[above]:
                above = nearest[above]
            if to <= start and above == to and start in nearest:
                ends[to] = max(last, ends.get(to, 0))
    spans = sorted(ends.items(), key=lambda span: (span[0], -span[1]))
    loops = []
    for start, end in spans:
        depth = sum(1 for s, e in spans if (s, e) != (start, end) and s <= start and end <= e)
        functions = functions_of(kernel.instructions[end])
        loops.append(Loop(start, end, functions[0] if functions else "", depth))
    return loops


def main_loop(kernel, loops):
    """The loop over the keys: the one with most of the products."""
    return max(loops, key=lambda loop: (loop.counts(kernel).get(products_of(kernel), 0), loop.start - loop.end))


def products_of(kernel):
    return "HMMA" if kernel.count("HMMA") else "FFMA"


@dataclasses.dataclass(frozen=True)
class Path:
    """What the walk needs to be told: see Rung in rungs.py."""

    whole: tuple = ()  # functions whose loops leave nothing over: their code behind an unrolled loop is not run
    cold: tuple = ()  # functions that are not run at all
    cold_lines: re.Pattern = None  # nor source lines that match

    def is_cold(self, lines):
        for name, line in lines:
            text = source_of(name)[line - 1] if line <= len(source_of(name)) else ""
            if COLD.search(text) or (self.cold_lines and self.cold_lines.search(text)):
                return True
            if function_at(name, line) in self.cold:
                return True
        return False


def work_ahead(kernel, blocks, path):
    """Of each block, the most work a way forward from its start meets: products, and where those are equal, copies."""
    weights, ahead = {products_of(kernel): 1000, "LDGSTS": 1}, {}
    for start in sorted(blocks, reverse=True):
        last, following = blocks[start]
        own = sum(weights[i.base] for i in kernel.instructions[start : last + 1]
                  if i.base in weights and not path.is_cold(i.lines))
        ahead[start] = own + max((ahead[to] for to in following if to > start), default=0)
    return ahead


def walk(kernel, trips, path):
    """Indices of the instructions one warp runs. trips(loop) -> how often it goes round, 0 or more."""
    by_start, by_end = {}, {}
    for loop in loops_of(kernel):
        by_start[loop.start] = by_end[loop.end] = loop
    ahead = work_ahead(kernel, successors_of(kernel), path)
    left, over, order, at = {}, None, [], 0
    while at < len(kernel.instructions) and len(order) < LONGEST:
        i = kernel.instructions[at]
        if at in by_start and at not in left:
            rounds = trips(by_start[at])
            over = None
            if rounds == 0:
                at = by_start[at].end + 1
                continue
            left[at] = rounds
        is_left_over = over is not None and over in functions_of(i)
        if not is_left_over and not path.is_cold(i.lines):
            order.append(at)
        if i.base == "EXIT" and not i.predicate:
            break
        if at in by_end:
            loop = by_end[at]
            left[loop.start] -= 1
            if left[loop.start] > 0:
                at = loop.start
                continue
            del left[loop.start]
            over = loop.function if loop.function in path.whole else None
        elif i.target is not None and i.target // 16 > at:
            to = i.target // 16
            if ahead[to] > ahead[at + 1] if is_conditional(i) else not is_left_over:
                at = to
                continue
        at += 1
    return order
