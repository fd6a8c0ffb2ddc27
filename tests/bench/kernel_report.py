#!/usr/bin/env python3
"""Tables and the chart of what bench_kernels.py measured, from its JSON.

kernel_report.py docs/bench/kernels_h100.json                     prints all figures, and how the targets fare
    --svg docs/bench/kernels_h100.svg                             draws the chart
    --readme README.md                                            puts README's tables between its two markers
    --check README.md                                             says whether they are those of the JSON
"""
import argparse
import json
import math
import pathlib
import textwrap

import readme
from bars import svg
from kernel_shapes import PEERS, TARGETS
from readme import short

COLOURS = {"flash": "#c1662f", "cudnn": "#6b8e4e"}
PEER_NAMES = {"flash": "PyTorch FlashAttention-2", "cudnn": "PyTorch cuDNN"}


def warm(row, side):
    return row["sides"].get(side, {}).get("warm_us")


def rungs(row):
    return [side for side in row["sides"] if side not in PEERS and warm(row, side)]


def best(row, names):
    """The fastest of some sides: (name, us), or None."""
    timed = [(warm(row, name), name) for name in names if warm(row, name)]
    return min(timed)[::-1] if timed else None


def rate(row, us):
    """In the unit that shape is judged by: TFLOP/s, or TB/s of K and V."""
    return row["kv_bytes"] / us * 1e-6 if row["group"] == "decode" else row["flops"] / us * 1e-6


def judge(target, rows):
    """(ratios by shape, geometric mean); the ratios are empty where something was not timed."""
    ratios = {}
    for row in rows:
        if target.group not in (row["group"], row["name"]):
            continue
        ours = best(row, rungs(row) if target.who == "best" else [target.who])
        theirs = best(row, target.whom)
        if ours and theirs:
            ratios[row["name"]] = theirs[1] / ours[1]
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios)) if ratios else None
    return ratios, mean


def target_lines(report):
    for target in TARGETS:
        ratios, mean = judge(target, report["shapes"])
        if mean is None:
            yield "%-48s not timed" % target.what
            continue
        shape, least = min(ratios.items(), key=lambda item: item[1])
        is_met = mean >= target.mean and (target.least is None or least >= target.least)
        text = "%-48s %6.2f of %5.2f" % (target.what, mean, target.mean)
        if len(ratios) > 1:
            text += ", least %.2f%s (%s)" % (least, " of %.2f" % target.least if target.least else "", shape)
        yield text + ("  reached" if is_met else "  NOT reached")


def table_lines(report):
    peak = report["peak_tflops"]
    for row in report["shapes"]:
        base = warm(row, "baseline")
        yield row["name"]
        for side, figures in row["sides"].items():
            if "warm_us" not in figures:
                yield "    %-10s %s" % (side, figures["skipped"])
                continue
            us = figures["warm_us"]
            text = "    %-10s %9.2f us" % (side, us)
            text += "  cold %9.2f" % figures["cold_us"] if "cold_us" in figures else " " * 16
            text += "  %7.1f TFLOP/s %5.1f %%" % (row["flops"] / us * 1e-6, 100 * row["flops"] / us * 1e-6 / peak)
            text += "  %5.2f TB/s" % rate(row, us) if row["group"] == "decode" else ""
            text += "  %6.2fx baseline" % (base / us) if base else ""
            text += "  %4d MHz" % figures["sm_mhz"] if figures.get("sm_mhz") else ""
            text += "  v%d s%d p%d" % tuple(figures["plan"]) if "plan" in figures else ""
            yield text + ("  error %.2g" % figures["error"] if "error" in figures else "")


def bars_of(row):
    bars = []
    ours = best(row, rungs(row))
    for name, us in ([ours] if ours else []) + [(peer, warm(row, peer)) for peer in PEERS if warm(row, peer)]:
        text = "%.*f %s" % (2 if row["group"] == "decode" else 0, rate(row, us), PEER_NAMES.get(name, name))
        bars.append((rate(row, us), COLOURS.get(name, "#3b6ea5"), text))
    return row["name"], bars


def chart(report):
    headings = (("short", "one short sequence, TFLOP/s"), ("grid", "16k tokens, TFLOP/s"), ("wide", "head_dim 256, TFLOP/s"),
                ("decode", "one query a sequence: K and V read, TB/s"))
    sections = []
    for row in report["shapes"]:
        if row["group"] == "ladder" and row["dtype"] == "f16":
            slowest = max(warm(row, side) for side in row["sides"] if warm(row, side))
            sections.append(("the ladder, %s: times the speed of the slowest" % row["name"], [
                (PEER_NAMES.get(side, side), [(slowest / warm(row, side), COLOURS.get(side, "#3b6ea5"), "%.1f (%.1f us)" % (
                    slowest / warm(row, side), warm(row, side)))]) for side in row["sides"] if warm(row, side)]))
    for group, heading in headings:
        rows = [bars_of(row) for row in report["shapes"] if row["group"] == group]
        if rows:
            sections.append((heading, rows))
    note = "f16, CUDA graph of a linear chain of launches, medians, same process and buffers; matmul peak here %.0f TFLOP/s" % (
        report["peak_tflops"])
    return svg("flashcored's kernels and PyTorch %s on %s" % (report["torch"].split("+")[0], report["device"]), note, sections,
               left=300, right=190)


# --- README ---------------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- kernels: made by tests/bench/kernel_report.py -->", "<!-- end of kernels -->"


def version_of_cudnn(number):
    return "%d.%d" % (number // 10000, number // 100 % 100)


def ladder_table(report):
    row = next(row for row in report["shapes"] if row["group"] == "ladder" and row["dtype"] == "f16")
    base = warm(row, "baseline")
    yield "| %s | warm us | cold us | TFLOP/s | of the matmul peak | times `baseline` |" % row["name"]
    yield "|---|---|---|---|---|---|"
    for side, figures in row["sides"].items():
        if warm(row, side):
            us, name = warm(row, side), PEER_NAMES.get(side, "`%s`" % side)
            yield "| %s | %s | %s | %s | %.2g %% | %s |" % (
                name, short(us), short(figures["cold_us"]) if "cold_us" in figures else "-", short(rate(row, us)),
                100 * rate(row, us) / report["peak_tflops"], short(base / us) if base else "-")


def side_by_side(report):
    yield "| warm us | best rung | FlashAttention-2 | cuDNN | times the better one's speed |"
    yield "|---|---|---|---|---|"
    for row in report["shapes"]:
        ours, theirs = best(row, rungs(row)), best(row, PEERS)
        if row["group"] == "ladder" or not ours or not theirs:
            continue
        peers = [short(warm(row, peer)) if warm(row, peer) else "-" for peer in PEERS]
        yield "| %s | %s (`%s`) | %s | %s | %.2f |" % (row["name"], short(ours[1]), ours[0], *peers, theirs[1] / ours[1])


def readme_block(report):
    about = ("%s, f16, PyTorch %s with cuDNN %s, %s; docs/bench/kernels_h100.json has every shape, clock and plan. Microseconds a "
             "launch: a CUDA graph holding a linear chain of launches over rotating buffers, median; PyTorch's backends in the "
             "same process, on the same buffers, with the same timing. A launch of ours in the chain begins while the one before it "
             "ends (programmatic dependent launch); PyTorch's do not. torch.matmul of 8192 x 8192 reaches %.0f TFLOP/s there." % (
                 report["device"], report["torch"].split("+")[0], version_of_cudnn(report["cudnn"]), report["made"],
                 report["peak_tflops"]))
    lines = [BEGIN, "", textwrap.fill(about, 120), ""]
    lines += list(ladder_table(report)) + ["", "![the kernels beside PyTorch's](docs/bench/kernels_h100.svg)", ""]
    return "\n".join(lines + list(side_by_side(report)) + ["", END])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json")
    parser.add_argument("--svg")
    parser.add_argument("--readme")
    parser.add_argument("--check")
    args = parser.parse_args()
    report = json.loads(pathlib.Path(args.json).read_text())
    if args.check:
        readme.check(args.check, readme_block(report), args.json, "kernel_report.py")
        return
    print("\n".join(list(table_lines(report)) + list(target_lines(report))))
    if args.svg:
        pathlib.Path(args.svg).write_text(chart(report))
    if args.readme:
        readme.put(args.readme, BEGIN, END, readme_block(report))


if __name__ == "__main__":
    main()
