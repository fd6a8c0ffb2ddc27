"""Writes the tables of docs/l4.md between their markers, from docs/bench: page.py [--check]

Predictions are those of l4_model.json (predict.py); measurements those of h100.json and, where it is there,
kernels_h100.json. --check: says whether the page is what would be written, and writes nothing. Needs no CUDA.
"""

import json
import pathlib
import re
import statistics
import sys

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "l4.md"
BOOST, SUSTAINED, H100 = "L4 at 2040 MHz", "L4 at 930 MHz", "H100"
BENCHMARK = "B1 H8 S512 D64 f16"
# (rung, what, limit in us): what the model has to say of the benchmark problem.
TARGETS = (("tc", "kernel_us", 110), ("fused", "call_us", 60), ("fused", "kernel_us", 20))


def measured():
    """{(rung, problem): us} of the H100, warm."""
    found = {}
    for row in json.loads((DOCS / "bench/h100.json").read_text())["kernel"]["rows"]:
        for rung, times in row.items():
            if isinstance(times, dict) and "warm_us" in times:
                found[rung, row["problem"]] = times["warm_us"]
    newer = DOCS / "bench/kernels_h100.json"
    if newer.exists():
        for row in json.loads(newer.read_text())["shapes"]:
            if row.get("causal") or row["q_len"] != row["kv_len"] or row["q_heads"] != row["kv_heads"]:
                continue
            problem = f"B{row['batch']} H{row['q_heads']} S{row['q_len']} D{row['head_dim']} {row['dtype']}"
            for rung, times in row["sides"].items():
                if times.get("warm_us"):
                    found[rung, problem] = times["warm_us"]
    return found


def rows_of(predictions, machine):
    return [row for row in predictions if row["machine"] == machine]


def table(*columns):
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)


def l4_table(predictions):
    yield from table("rung", "problem", "blocks an SM (at once)", "instructions a warp", "2040 MHz, us",
                     "930 MHz, us", "busiest pipe alone, us")
    slow = {(row["rung"], row["problem"]): row for row in rows_of(predictions, SUSTAINED)}
    for row in rows_of(predictions, BOOST):
        other = slow[row["rung"], row["problem"]]
        yield (f"| {row['rung']} | {row['problem']} | {row['blocks_an_sm']} ({row['resident']}) | {row['instructions']} "
               f"| {row['kernel_us']} | {other['kernel_us']} | {row['busiest_us']} ({row['busiest']}) |")


def errors_of(predictions, times):
    for row in rows_of(predictions, H100):
        us = times.get((row["rung"], row["problem"]))
        if us is not None:
            yield row, us, row["kernel_us"] / us - 1


def h100_table(predictions, times):
    yield from table("rung", "problem", "predicted, us", "measured, us", "error")
    for row, us, error in errors_of(predictions, times):
        yield f"| {row['rung']} | {row['problem']} | {row['kernel_us']} | {us:.1f} | {error:+.0%} |"


def error_table(predictions, times):
    yield from table("rung", "problems", "median of the error's size", "largest")
    by_rung = {}
    for row, _, error in errors_of(predictions, times):
        by_rung.setdefault(row["rung"], []).append(error)
    for rung, errors in by_rung.items():
        worst = max(errors, key=abs)
        yield f"| {rung} | {len(errors)} | {statistics.median(map(abs, errors)):.0%} | {worst:+.0%} |"


def target_table(predictions):
    yield from table("rung", "figure", "has to be", "at 2040 MHz, us", "at 930 MHz, us")
    for rung, what, limit in TARGETS:
        cells = []
        for machine in (BOOST, SUSTAINED):
            row = next((r for r in rows_of(predictions, machine) if (r["rung"], r["problem"]) == (rung, BENCHMARK)), None)
            cells.append("-" if row is None else f"{row[what]} ({'met' if row[what] <= limit else 'missed'})")
        yield f"| {rung} | {what.split('_')[0]} | <= {limit} us | {' | '.join(cells)} |"


def filled(text):
    predictions = json.loads((DOCS / "bench/l4_model.json").read_text())["rows"]
    times = measured()
    tables = {"targets": target_table(predictions), "l4": l4_table(predictions),
              "h100": h100_table(predictions, times), "errors": error_table(predictions, times)}
    for name, lines in tables.items():
        marked = rf"(<!-- {name}: by tests/sass/page.py -->\n).*?(<!-- end -->)"
        text, count = re.subn(marked, lambda m: m.group(1) + "\n".join(lines) + "\n" + m.group(2), text, flags=re.S)
        if count != 1:
            raise ValueError(f"{PAGE}: {count} places for the table '{name}', not 1")
    return text


def main():
    text = PAGE.read_text()
    now = filled(text)
    if "--check" in sys.argv[1:]:
        if now != text:
            print("docs/l4.md: its tables are not those of docs/bench (make l4-model, or tests/sass/page.py)")
        return 0
    PAGE.write_text(now)
    return 0


if __name__ == "__main__":
    sys.exit(main())
