"""Predicts a rung's time on a machine: pipes alone, and the simulated SM."""

import dataclasses
import functools

import simulate
import trace

SIMULATED_TILES = 8  # longer loops are extended from half as many
SIMULATED_WAVES = 2


@dataclasses.dataclass(frozen=True)
class Prediction:
    cycles: float  # of the SM that has most to do
    pipes: dict  # cycles it needs of each pipe, if nothing ever waited
    busiest: str
    blocks: int  # that it works on
    resident: int  # of them at once
    instructions: int  # a warp's

    def kernel_us(self, machine):
        """In a chain of launches."""
        return self.cycles / machine.clock_mhz + machine.gap_us


def resident_blocks(machine, kernel, rung):
    registers = -(-kernel.registers // 8) * 8 * rung.threads
    shared = kernel.shared + rung.dynamic_shared + (1024 if machine.arch != "sm_90a" else 0)
    return min(machine.blocks, machine.threads // rung.threads, 65536 // registers,
               machine.shared_bytes // shared if shared else machine.blocks)


class Model:
    def __init__(self, machine, kernel, rung):
        self.machine, self.kernel, self.rung = machine, kernel, rung
        self.resident = resident_blocks(machine, kernel, rung)
        self.warps = rung.threads // 32

        self.steps = [simulate.Step(machine, i, rung) for i in kernel.instructions]
        self.loops = trace.loops_of(kernel)

    @functools.lru_cache(maxsize=None)
    def order(self, tiles):
        rounds = self.rung.trips()
        main = trace.main_loop(self.kernel, self.loops)
        seen, by_loop = {}, {main: tiles}
        for loop in self.loops:
            if loop == main:
                continue
            given = [0] if loop.function.startswith("fc_work_segment") else rounds.get(loop.function, [1])
            at = seen.get(loop.function, 0)
            seen[loop.function] = at + 1
            by_loop[loop] = given[min(at, len(given) - 1)]
        path = trace.Path(self.rung.whole, self.rung.cold, self.rung.cold_lines)
        return trace.walk(self.kernel, by_loop.__getitem__, path)

    def sm_cycles(self, tiles, blocks):
        sm = simulate.Sm(self.machine, self.steps, self.order(tiles), self.warps, self.resident,
                         self.rung.copies_a_warp())
        return sm.run(blocks)

    def extended(self, measure, count, limit):
        """measure(count), from measure(limit / 2) and measure(limit) where count is larger."""
        if count <= limit:
            return measure(count)
        low, high = measure(limit // 2), measure(limit)
        return high + (high - low) * (count - limit) / (limit - limit // 2)

    def block_cycles(self, blocks):
        tiles = self.rung.tiles()
        return self.extended(lambda t: self.sm_cycles(t, blocks), tiles, SIMULATED_TILES)

    def pipe_sums(self, tiles):
        """{pipe: cycles} of one warp's instructions."""
        order, copies = self.order(tiles), 0
        sums = {"issue": len(order) / 4, "far": 0.0, "l2": 0.0}
        for at in order:
            step = self.steps[at]
            copies += step.base == "LDGSTS"
            if step.pipe:
                sums[step.pipe] = sums.get(step.pipe, 0) + step.cycles / 4
            if step.base == "LDGSTS" and self.rung.copies_a_warp() is not None and copies > self.rung.copies_a_warp():
                continue
            sums["far"] += step.near
            if step.miss_every:
                sums["l2"] += step.l2_bytes / step.miss_every / self.machine.l2_bytes
        return sums

    def pipes(self, blocks):
        """{pipe: cycles} one SM needs of each for its blocks, if nothing waited."""
        tiles = self.rung.tiles()
        if tiles <= SIMULATED_TILES:
            sums = self.pipe_sums(tiles)
        else:
            low, sums = self.pipe_sums(SIMULATED_TILES // 2), self.pipe_sums(SIMULATED_TILES)
            more = (tiles - SIMULATED_TILES) / (SIMULATED_TILES // 2)
            sums = {pipe: cycles + (cycles - low.get(pipe, 0)) * more for pipe, cycles in sums.items()}
        return {pipe: cycles * self.warps * blocks for pipe, cycles in sums.items()}

    def predict(self):
        blocks = -(-self.rung.blocks() // self.machine.sms)
        waves = self.resident * SIMULATED_WAVES
        pipes = self.pipes(blocks)
        return Prediction(self.extended(self.block_cycles, blocks, waves), pipes, max(pipes, key=pipes.get), blocks,
                          self.resident, len(self.order(self.rung.tiles())))
