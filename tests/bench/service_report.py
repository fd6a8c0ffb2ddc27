#!/usr/bin/env python3
"""Table, chart and README's block of what bench_service.py measured, from its JSON.

service_report.py docs/bench/service_cuda.json                    prints every figure beside its floor, and the targets
    --svg docs/bench/service_cuda.svg                             draws latency against load
    --readme README.md                                            puts README's block between its two markers
    --check README.md                                             says whether the block is that of the JSON
"""
import argparse
import json
import pathlib
import textwrap
from collections import namedtuple

import lines
import readme
from readme import short

MAIN, SMALL = "1,8,512,64", "1,8,128,64"
COLOURS = {"inline ipc": "#c1662f", "inline tcp": "#888888", "staged": "#a05fa5", "arena": "#3b6ea5", "device": "#6b8e4e"}

# What a figure is held to: at most (is_most) or at least `asked`, in `unit`; `measured` or `asked` None: not measured.
Target = namedtuple("Target", "what measured asked is_most unit why")


class Figures:
    """The report, by questions. Everything is None where it was not measured."""

    def __init__(self, report):
        self.report, self.floors = report, report["floors"]
        self.is_cuda = report["engine"] == "cuda"

    def row(self, path, clients, shape=MAIN, loop="closed", spin=None, on=None):
        for row in self.report["service"]:
            if (row["path"], row["clients"], row["shape"], row["loop"], row.get("spin"), row.get("on")) == (
                    path, clients, shape, loop, spin, on):
                return row
        return None

    def p50(self, *which, **more):
        row = self.row(*which, **more)
        return row["p50_us"] if row and row["answers"] else None

    def rate(self, *which, **more):
        row = self.row(*which, **more)
        return row["requests_per_s"] if row and row["answers"] else None

    def gpu(self, name, shape=MAIN, key="p50_us"):
        return self.floors.get("gpu", {}).get("shapes", {}).get(shape, {}).get(name, {}).get(key)

    def hop(self, name="bare", key="p50_us"):
        return self.floors.get("hop", {}).get(name, {}).get(key)

    def echo(self, scheme, clients, key):
        found = self.floors["echo"].get("%s %d" % (scheme, clients), {})
        return found.get("per_second") if key == "per_second" else found.get("round_trip", {}).get(key)

    def cpu_kernel(self, shape=MAIN):
        return self.floors.get("host", {}).get("cpu_kernel", {}).get(shape, {}).get("p50_us")

    def peer(self, clients, key):
        return self.report["peer"].get(str(clients), {}).get(key)

    # What the machine takes for one request of a path, and how many it could do a second.

    def compute_us(self, shape):
        return self.gpu("stream", shape) if self.is_cuda else self.cpu_kernel(shape)

    def latency_floor(self, path, clients, shape=MAIN):
        if path.startswith("inline"):
            return plus(self.echo(path.split()[1], clients, "p50_us"), self.compute_us(shape)) if shape == MAIN else None
        if path == "device":
            return plus(self.gpu("launch", shape), self.hop())
        return plus(self.compute_us(shape), self.hop())

    def rate_floor(self, path, clients, shape=MAIN):
        if not self.is_cuda:
            compute = over(1e6, self.cpu_kernel(shape))
        else:
            compute = self.gpu("kernels" if path == "device" else "pipeline", shape, "per_second")
        if not path.startswith("inline"):
            return compute
        echo = self.echo(path.split()[1], clients, "per_second") if shape == MAIN else None
        return min(echo, compute) if echo and compute else None


def plus(*values):
    return None if None in values else sum(values)


def over(a, b):
    return None if a is None or not b else a / b


def times(factor, value):
    return None if value is None else factor * value


# --- targets --------------------------------------------------------------------------------------------------------

def gpu_targets(f):
    for spin in (None, "--spin-us 0", "the client awake too"):
        name = ", " + spin if spin else ""
        yield Target("arena, 1 client%s: p50" % name, f.p50("arena", 1, spin=spin), plus(f.gpu("stream"), f.hop(), 15), True,
                     "us", "stream floor + hop + 15")
        yield Target("device arena, 1 client%s: p50" % name, f.p50("device", 1, spin=spin), plus(f.gpu("launch"), f.hop(), 10),
                     True, "us", "launch floor + hop + 10")
        if spin == "the client awake too":
            continue
        yield Target("arena, 16 clients%s: throughput" % name, f.rate("arena", 16, spin=spin),
                     times(0.9, f.gpu("pipeline", key="per_second")), False, "/s", "90 % of the pipeline floor")
        yield Target("device arena, S128, 16 clients%s: throughput" % name, f.rate("device", 16, SMALL, spin=spin), 60000, False,
                     "/s", "")
    yield Target("inline ipc, 1 client: p50", f.p50("inline ipc", 1), times(1.2, f.latency_floor("inline ipc", 1)), True, "us",
                 "1.2 (echo + stream floor)")
    yield Target("inline tcp, 16 clients: throughput", f.rate("inline tcp", 16), times(0.8, f.echo("tcp", 16, "per_second")),
                 False, "/s", "80 % of the echo")
    yield Target("arena p50 at 1 client, times below Python gRPC + PyTorch", over(f.peer(1, "p50_us"), f.p50("arena", 1)), 50,
                 False, "x", "")
    yield Target("arena throughput at 16, times above it", over(f.rate("arena", 16), f.peer(16, "requests_per_s")), 80, False,
                 "x", "")
    yield Target("inline ipc p50 at 1 client, times below it", over(f.peer(1, "p50_us"), f.p50("inline ipc", 1)), 6, False, "x", "")


def host_targets(f):
    for row in f.report["service"]:
        if row.get("on") == "cpu engine":
            parts = row["mean_parts_us"]
            awake = ", " + row["spin"] if "spin" in row else ""
            yield Target("CPU engine, arena, S%s%s: service over kernel time" % (row["shape"].split(",")[2], awake),
                         over(parts["total"], parts["kernel"]), 1.05, True, "x", "")
    bare = f.hop()
    yield Target("ping, local channel, 16 in flight: throughput", f.hop("ping_pipelined", "per_second"), 100000, False, "/s", "")
    yield Target("ping, local channel, 1 client: p50", f.hop("ping"), 15 if bare is None or bare < 10 else 1.5 * bare, True, "us",
                 "the bare socket takes %s" % short(bare))


def own_kb(resident):
    """Without what the driver maps and what is shared with clients."""
    return resident["own"] + resident["files"]


def daemon_targets(f):
    bare, daemon = f.floors.get("bare"), f.report["daemon"]
    if bare and "at_rest_kb" in daemon:
        yield Target("host memory at rest beyond CUDA's own and staging",
                     (own_kb(daemon["at_rest_kb"]) - own_kb(bare[-1]["resident_kb"])) / 1024, 64, True, "MB", "")
        yield Target("start to ready beyond CUDA's own initialisation", daemon["start_s"] - bare[-1]["cuda_init_s"], 1, True, "s",
                     "cudaFree(0) in a bare process: %.2f" % bare[-1]["cuda_init_s"])


def targets(report):
    f = Figures(report)
    return (list(gpu_targets(f)) if f.is_cuda else []) + list(host_targets(f)) + list(daemon_targets(f))


def is_met(target):
    return target.measured <= target.asked if target.is_most else target.measured >= target.asked


def verdict(target):
    return "not measured" if target.measured is None or target.asked is None else "reached" if is_met(target) else "NOT reached"


# --- the table ------------------------------------------------------------------------------------------------------

def with_unit(value, unit):
    return "-" if value is None else "%.0f /s" % value if unit == "/s" else "%s %s" % (short(value), unit)


def target_line(target):
    sign = "<=" if target.is_most else ">="
    return "%-62s %12s of %s %-12s %-12s %s" % (target.what, with_unit(target.measured, target.unit), sign,
                                                with_unit(target.asked, target.unit), verdict(target), target.why)


def floor_lines(f):
    host, bare = f.floors.get("host"), f.floors.get("bare")
    if host:
        yield "memcpy of %d bytes: cold %s us, warm %s us" % (host["memcpy"]["bytes"], short(host["memcpy"]["cold"]["p50_us"]),
                                                              short(host["memcpy"]["warm"]["p50_us"]))
        yield "cpu kernel (%s, %d threads): %s" % (host["cpu_isa"], host["cpu_threads"], ", ".join(
            "%s %s us" % (shape, short(took["p50_us"])) for shape, took in host["cpu_kernel"].items()))
    if bare:
        yield "CUDA alone: initialised in %s s" % ", ".join("%.2f" % each["cuda_init_s"] for each in bare)
    for shape, floors in f.floors.get("gpu", {}).get("shapes", {}).items():
        yield "%s, %s: %s; %s" % (shape, floors["kernel"], ", ".join(
            "%s %s us" % (name, short(floors[name]["p50_us"])) for name in ("launch", "copy_in", "copy_out", "stream")),
            ", ".join("%s %.0f/s" % (name, floors[name]["per_second"]) for name in ("pipeline", "kernels")))
    if f.floors.get("hop"):
        yield "hop %s us; ping %s us, %.0f/s with 16 in flight (bare socket %.0f/s)" % (
            short(f.hop()), short(f.hop("ping")), f.hop("ping_pipelined", "per_second"), f.hop("bare_pipelined", "per_second"))
    for which, echo in f.floors["echo"].items():
        yield "echo %s clients: p50 %s us, %.0f/s" % (which, short(echo["round_trip"]["p50_us"]), echo["per_second"])


def row_lines(f):
    for row in f.report["service"]:
        about = ", ".join(str(row[key]) for key in ("spin", "on") if key in row)
        if row["loop"] == "open":
            about = "%.0f/s offered" % row["offered"]
        text = "%-10s %3d clients %-11s %-9s %-16s %9.0f/s  p50 %8s  p99 %8s us" % (
            row["path"], row["clients"], row["shape"], row["loop"], about, row["requests_per_s"], short(row["p50_us"]),
            short(row["p99_us"]))
        if row["loop"] == "closed" and "on" not in row:
            latency = over(row["p50_us"], f.latency_floor(row["path"], row["clients"], row["shape"]))
            rate = over(row["requests_per_s"], f.rate_floor(row["path"], row["clients"], row["shape"]))
            text += "  %5s of the floor's rate" % short(rate) if row["clients"] > 1 else "  %5s times the floor" % short(latency)
        text += "  %d errors" % row["error_count"] if row["error_count"] else ""
        yield text
        if row["loop"] == "closed" and row["clients"] == 1 and "mean_parts_us" in row:
            yield " " * 15 + ", ".join("%s %s" % (part, short(us)) for part, us in row["mean_parts_us"].items())


def daemon_lines(f):
    daemon = f.report["daemon"]
    if "start_s" in daemon:
        yield "ready after %.2f s" % daemon["start_s"]
    if f.report.get("throttled_us"):
        yield "held back by the quota of processors for %.1f s of all threads' time: what it did then is not a figure" % (
            f.report["throttled_us"] / 1e6)
    for when, key in (("at rest", "at_rest_kb"), ("after the closed loops", "after_kb")):
        if key in daemon:
            yield "resident %s, MB: %s" % (when, ", ".join("%s %.1f" % (kind, kb / 1024) for kind, kb in daemon[key].items()))


def peer_lines(f):
    for clients, figures in f.report["peer"].items():
        if clients != "about":
            yield "Python gRPC + PyTorch, %s clients: %.0f/s, p50 %s us, p99 %s us" % (
                clients, figures["requests_per_s"], short(figures["p50_us"]), short(figures["p99_us"]))


def print_all(report):
    f = Figures(report)
    sections = (("Floors", floor_lines(f)), ("Service", row_lines(f)), ("Daemon", daemon_lines(f)), ("Peer", peer_lines(f)),
                ("Targets", map(target_line, targets(report))),
                ("Left out", report["failed"] + report["skipped"]))
    for heading, text in sections:
        text = list(text)
        print("\n".join(["%s:" % heading] + ["  " + line for line in text]) if text else "", end="\n" if text else "")


# --- the chart ------------------------------------------------------------------------------------------------------

def chart(report):
    series = []
    for path, colour in COLOURS.items():
        rows = [row for row in report["service"] if row["path"] == path and row["loop"] == "open" and row["answers"]]
        for key, dash, label in (("p50_us", "", path + ", p50"), ("p99_us", "5 3", path + ", p99")):
            if rows:
                series.append((label, colour, dash, [(row["offered"], row[key]) for row in rows]))
    if not series:
        return None
    note = "B1 H8 S512 D64 f16; requests sent on schedule, latency from the intended send time; %d processors" % report["processors"]
    return lines.svg("Latency against load, %s" % device(report), note, "requests a second offered", "microseconds", series)


def device(report):
    return report["floors"].get("gpu", {}).get("device") or report["processor"]


# --- README ---------------------------------------------------------------------------------------------------------

BEGIN, END = "<!-- service: made by tests/bench/service_report.py -->", "<!-- end of service -->"


def closed_table(f):
    yield "| path | clients | requests/s | of its floor | p50 us | times its floor | p99 us |"
    yield "|---|---|---|---|---|---|---|"
    for row in f.report["service"]:
        if (row["loop"], row["shape"]) == ("closed", MAIN) and row["clients"] in (1, 16) and not {"spin", "on"} & set(row):
            yield "| %s | %d | %.0f | %s | %s | %s | %s |" % (
                row["path"], row["clients"], row["requests_per_s"],
                short(over(row["requests_per_s"], f.rate_floor(row["path"], row["clients"]))), short(row["p50_us"]),
                short(over(row["p50_us"], f.latency_floor(row["path"], row["clients"]))), short(row["p99_us"]))
    for clients in (1, 16):
        if f.peer(clients, "p50_us"):
            yield "| Python gRPC + PyTorch | %d | %.0f | - | %s | - | %s |" % (
                clients, f.peer(clients, "requests_per_s"), short(f.peer(clients, "p50_us")), short(f.peer(clients, "p99_us")))


def target_table(report):
    yield "| asked of it | measured | asked | |"
    yield "|---|---|---|---|"
    for target in targets(report):
        yield "| %s | %s | %s %s%s | %s |" % (
            target.what, with_unit(target.measured, target.unit), "at most" if target.is_most else "at least",
            with_unit(target.asked, target.unit), " (%s)" % target.why if target.why else "", verdict(target))


def readme_block(report, name):
    f = Figures(report)
    about = "%s, %d processors, %s; docs/bench/%s.json has every figure. B1 H8 S512 D64 f16, 1.5 MiB in and 0.5 MiB out, " % (
        device(report), report["processors"], report["made"], name)
    about += "client send to client receive, closed loop, %s in the same run. " % (
        "floors, service and Python peer" if report["peer"] else "floors and service")
    if f.is_cuda and f.gpu("stream"):
        about += ("Floors: copy in, kernel and copy out on one stream %s us, on four streams %.0f/s; launch and wait %s us; a packet "
                  "there and back between two processes %s us. An inline request's floor is that of nng carrying its bytes, and "
                  "the stream's." % (short(f.gpu("stream")), f.gpu("pipeline", key="per_second"), short(f.gpu("launch")),
                                     short(f.hop())))
    else:
        about += "Floors: the kernel alone %s us; a packet there and back between two processes %s us." % (
            short(f.cpu_kernel()), short(f.hop()))
    block = [BEGIN, "", textwrap.fill(about, 120), ""] + list(closed_table(f)) + [""]
    if chart(report):
        block += ["![Latency against load](docs/bench/%s.svg)" % name, ""]
    return "\n".join(block + list(target_table(report)) + ["", END])


def publish(path, svg=None, page=None):
    """Prints everything, and writes what is named."""
    report = json.loads(path.read_text())
    print_all(report)
    if svg and chart(report):
        pathlib.Path(svg).write_text(chart(report))
    if page:
        readme.put(page, BEGIN, END, readme_block(report, path.stem))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("--svg")
    parser.add_argument("--readme")
    parser.add_argument("--check")
    args = parser.parse_args()
    if not args.check:
        publish(args.json, args.svg, args.readme)
    else:
        readme.check(args.check, readme_block(json.loads(args.json.read_text()), args.json.stem), args.json, "service_report.py")


if __name__ == "__main__":
    main()
