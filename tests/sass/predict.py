"""The model of docs/l4.md: what each rung should take on an L4, and on the H100 it can be checked on.

    predict.py ENGINE --plan PROGRAM --out docs/bench/l4_model.json     predict anew
    predict.py ENGINE --plan PROGRAM --check docs/bench/l4_model.json   predict anew and compare with what is recorded

page.py puts the figures into docs/l4.md.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys

import machine as machines
import model
import rungs
import sass
import tiles

# By machine code, the machines that differ in nothing but their clock.
MACHINES = {"sm_90a": (machines.H100,), "sm_89": (machines.L4_BOOST, machines.L4_SUSTAINED)}
SQUARE = lambda s, d=64, dtype="f16", heads=8, batch=1: rungs.Problem(batch, heads, s, s, d, dtype)
PROBLEMS = {
    "baseline": (SQUARE(128), SQUARE(512), SQUARE(512, dtype="f32")),
    "vec": (SQUARE(128), SQUARE(512), SQUARE(512, dtype="bf16"), SQUARE(512, dtype="f32"), SQUARE(2048)),
    "warp": (SQUARE(128), SQUARE(512), SQUARE(512, dtype="f32"), SQUARE(2048)),
    "tc": (SQUARE(128), SQUARE(512), SQUARE(512, dtype="bf16"), SQUARE(512, 128), SQUARE(2048)),
    "fused": (SQUARE(128), SQUARE(512), SQUARE(512, dtype="bf16"), SQUARE(512, 128), SQUARE(2048),
              SQUARE(512, heads=32, batch=32), SQUARE(2048, heads=32, batch=8),
              SQUARE(512, 128, heads=16, batch=32), SQUARE(2048, 128, heads=16, batch=8)),
}
TOLERANCE = 0.03  # of a recorded time, before it counts as another


def planned(program, machine, name, problem):
    """(variant, split count), or None: the plan has no such rung for the problem."""
    capability = {"sm_89": "89", "sm_90a": "90"}[machine.arch]
    p = problem
    numbers = (p.batch, p.q_heads, p.q_heads, p.q_len, p.kv_len, p.head_dim)
    said = subprocess.run([program, capability, str(machine.sms), name, p.dtype, *map(str, numbers)],
                          capture_output=True, text=True)
    if said.returncode != 0:
        return None
    variant, _, _, splits = map(int, said.stdout.split())
    return variant, splits


def predict(task):
    arch, kernel, rung, splits = task
    p = model.Model(MACHINES[arch][0], kernel, rung).predict()
    return [{"rung": rung.name, "problem": str(rung.problem), "machine": machine.name, "kernel": kernel.name,
             "registers": kernel.registers, "splits": splits, "blocks_an_sm": p.blocks, "resident": p.resident,
             "instructions": p.instructions, "kernel_us": round(p.kernel_us(machine), 1),
             "call_us": round(p.kernel_us(machine) + machine.call_us, 1), "busiest": p.busiest,
             "busiest_us": round(p.pipes[p.busiest] / machine.clock_mhz, 1),
             "pipe_cycles": {pipe: round(cycles) for pipe, cycles in p.pipes.items()}}
            for machine in MACHINES[arch]]


def tasks(kernels, program):
    for name, problems in PROBLEMS.items():
        for problem in problems:
            for arch, machines_ in MACHINES.items():
                plan = planned(program, machines_[0], name, problem)
                if plan is None:
                    continue
                rows = tiles.rows_of(name)
                rung = rungs.RUNGS[name](problem, rows[plan[0]] if rows else None, plan[1])
                kernel = next(k for k in kernels if k.arch == arch and rung.is_kernel(k))
                yield arch, kernel, rung, plan[1]


def differences(recorded, found):
    key = lambda row: (row["rung"], row["problem"], row["machine"])
    before = {key(row): row["kernel_us"] for row in recorded}
    after = {key(row): row["kernel_us"] for row in found}
    for name in sorted(set(before) | set(after)):
        old, new = before.get(name), after.get(name)
        if old is None or new is None or abs(new - old) > TOLERANCE * old:
            yield f"{', '.join(name)}: {old} us recorded, {new} us from the code as it is"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("--plan", required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out")
    what.add_argument("--check")
    arguments = parser.parse_args()
    kernels = sass.read(arguments.engine, set(MACHINES))
    with multiprocessing.Pool() as pool:
        found = sum(pool.map(predict, list(tasks(kernels, arguments.plan)), chunksize=1), [])
    if arguments.out:
        with open(arguments.out, "w") as file:
            json.dump({"what": "predicted times, see docs/l4.md", "rows": found}, file, indent=1)
            file.write("\n")
        return 0
    with open(arguments.check) as file:
        wrong = list(differences(json.load(file)["rows"], found))
    for line in wrong:
        print(f"FAIL  {line}")
    if wrong:
        print("      the kernels have changed: make l4-model, and look at docs/l4.md")
    print(f"{len(found) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
