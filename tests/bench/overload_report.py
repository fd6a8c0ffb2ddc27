#!/usr/bin/env python3
"""What bench_overload.py's figures say: a table, a chart, README's lines.

overload_report.py docs/bench/overload_cpu.json [--readme README.md]   --readme writes its block; without it, checks it
"""
import argparse
import json
import pathlib
import statistics

import lines
import readme
from readme import short

BEGIN, END = "<!-- overload: made by tests/bench/overload_report.py -->\n", "<!-- end of overload -->\n"
COLOURS = {"small inline": "#1f77b4", "small arena": "#2ca02c", "long inline": "#d62728", "long arena": "#9467bd"}
WHERE = ("loop", "shape", "path", "in_flight", "share", "flood")  # what tells one load from another


def line(row):
    if row["loop"] == "flood":
        return "15 polite beside %-32s p50 %5s times, p99 %5s times (%s us alone)" % (
            row["flood"], short(row["p50_ratio"]), short(row["p99_ratio"]), short(row["alone_p99_us"]))
    load = "%d in flight" % row["in_flight"] if row["loop"] == "closed" else "%gx, %s" % (row["share"], row["loop"])
    return "%-5s %-6s %-15s %7s ok/s %8s busy/s (%4s an answer) p50 %8s us p99 %8s us  cpu %5s us an answer (waited %3.0f %%) %5s MiB%s" % (
        row["shape"], row["path"], load, short(row["ok_per_s"]), short(row["busy_per_s"]), short(row["busy_per_answer"]), short(row["p50_us"]),
        short(row["p99_us"]), short(row["cpu_us_per_answer"]), 100 * row["starved"], short(row["rss_mib"]),
        "".join("  %s %d" % pair for pair in sorted(row["errors"].items())) + ("  late %d" % row["late"] if row["late"] else ""))


def median(same, key):
    found = [row[key] for row in same if row[key] is not None]
    return statistics.median(found) if found else None


def medians(rows):
    """One row a load: the median of each of its numbers over the rounds, None where no round has it."""
    loads = {}
    for row in rows:
        loads.setdefault(tuple(row.get(key) for key in WHERE), []).append(row)
    return [{key: median(same, key) if isinstance(value, (int, float, type(None))) and key not in WHERE else value
             for key, value in same[0].items()} for same in loads.values()]


def of(rows, **wanted):
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def kept(rows):
    """Of what it answers at most, what is left at the largest load."""
    most = max(row["ok_per_s"] for row in rows)
    return rows[-1]["ok_per_s"] / most if most > 0 else 0


def charts(rows):
    rate, late = [], []
    for name, colour in COLOURS.items():
        shape, path = name.split()
        for loop, dash in (("open", ""), ("timeout", "5 3")):
            points = of(rows, shape=shape, path=path, loop=loop)
            label = name if loop == "open" else name + ", impatient"
            if points:
                rate.append((label, colour, dash, [(row["share"], max(row["ok_per_s"], 1)) for row in points]))
                late.append((label, colour, dash, [(row["share"], row["p99_us"] / 1000) for row in points if row["p99_us"]]))
    x = "offered, in times of what the closed loop reaches"
    return lines.stack([
        lines.svg("Answers against offered load", "open loop, 4096 calls may wait; impatient: calls end after half a full queue's time",
                  x, "answers a second", rate),
        lines.svg("p99 of the answers", "of those that came; from the intended send", x, "milliseconds", late)])


def block(report, link):
    rows = medians(report["rows"])
    parts = [BEGIN, "\n%s, %d processors, the daemon on half of them, %s; medians of %d rounds on a machine with other work; "
             "[every figure](%s). -: no answer of a call that was sent within the time.\n\n" % (report["processor"], report["processors"], report["made"], report["rounds"], link),
             "| load | answers/s at most | at 8 times | busy, an answer | p99 ms at 8 times | daemon MiB |\n|---|---|---|---|---|---|\n"]
    for loop, name in (("open", "open loop"), ("timeout", "open loop, impatient callers"), ("deadline", "open loop, deadlines")):
        for load in COLOURS:
            shape, path = load.split()
            points = of(rows, shape=shape, path=path, loop=loop)
            if points:
                last = points[-1]
                parts.append("| %s, %s | %s | %.0f %% | %s | %s | %s |\n" % (
                    load, name, short(max(row["ok_per_s"] for row in points)), 100 * kept(points), short(last["busy_per_answer"]),
                    short(last["p99_us"] / 1000) if last["p99_us"] else "-", short(max(row["rss_mib"] for row in points))))
    floods = of(rows, loop="flood")
    if floods:
        parts.append("\n| 15 polite clients beside one with | p50, times | p99, times |\n|---|---|---|\n")
        parts += ["| %s | %s | %s |\n" % (row["flood"], short(row["p50_ratio"]), short(row["p99_ratio"])) for row in floods]
    return "".join(parts) + "\n![Answers and p99 against offered load](%s)\n\n" % link.replace(".json", ".svg") + END


def publish(path, where):
    report = json.loads(pathlib.Path(path).read_text())
    rows = medians(report["rows"])
    print("\nMedians of %d rounds:" % report["rounds"])
    for row in rows:
        print(line(row))
    if of(rows, loop="open"):
        pathlib.Path(path).with_suffix(".svg").write_text(charts(rows))
    if where:
        readme.put(where, BEGIN, END, block(report, "docs/bench/" + pathlib.Path(path).name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json")
    parser.add_argument("--readme")
    args = parser.parse_args()
    if args.readme:
        publish(args.json, args.readme)
    else:
        report = json.loads(pathlib.Path(args.json).read_text())
        readme.check("README.md", block(report, "docs/bench/" + pathlib.Path(args.json).name), args.json, "overload_report.py")


if __name__ == "__main__":
    main()
