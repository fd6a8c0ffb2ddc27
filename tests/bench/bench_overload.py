#!/usr/bin/env python3
"""Offers the daemon more than it can do, and looks at what comes of it: answers a second, refusals, latency, memory, the
daemon's processor time an answer, and what one that floods does to others.

bench_overload.py --build build --out docs/bench [--rounds 3] [--seconds 1] [--readme README.md]

Each load is measured once a round, and the report takes medians over the rounds. The daemon has one half of the
processors and the load the other, so that a load generator that works harder does not take the daemon's. Writes
OUT/overload_cpu.json and .svg. CPU engine; Python alone.
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import bench_service
import overload_report

# What the daemon does beside computing decides, and: computing does, so that the queue fills.
SHAPES = {"small": "1,1,32,16", "long": "1,1,1024,16"}
PATHS = ("inline", "arena")
IN_FLIGHT = (1, 16, 64, 256, 512, 4096)
SHARES = (0.25, 0.5, 1, 2, 4, 8)
OPEN_CLIENTS, OPEN_IN_FLIGHT = 16, 256  # so many calls may wait at once; past that the schedule is missed
QUEUE = 256  # the daemon's default
FLOODERS = {  # arguments of the flood; the third may be another user's
    "64 in flight": ["--clients", "1", "--inflight", "64"],
    "64 connections": ["--clients", "64", "--inflight", "1"],
    "64 connections of another user": ["--clients", "64", "--inflight", "1"],
    "16 MiB a request": ["--clients", "1", "--inflight", "64", "--path", "inline", "--shape", "1,1,43520,64", "--kv-len", "8",
                         "--inputs", "1"],
}
POLITE, POLITE_SHAPE = 15, "1,8,128,64"
OTHER_USER = 65534


def halves():
    """Processors for the daemon and for the load."""
    cpus = sorted(os.sched_getaffinity(0))
    return (set(cpus[:len(cpus) // 2]), set(cpus[len(cpus) // 2:])) if len(cpus) > 1 else (set(cpus), set(cpus))


@contextlib.contextmanager
def on(cpus):
    """What starts in here runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def starved(pid):
    """Seconds that its threads ran, and that they could have run but for others."""
    stats = [path.read_text().split() for path in pathlib.Path("/proc/%d/task" % pid).glob("*/schedstat")]
    return sum(int(words[0]) for words in stats) / 1e9, sum(int(words[1]) for words in stats) / 1e9


def resident_mib(pid):
    """Of its own: memory shared with clients is theirs, too."""
    for line in pathlib.Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return None


class Overload:
    def __init__(self, args, folder):
        self.args, self.folder, self.build = args, folder, pathlib.Path(args.build)
        self.daemon_cpus, self.load_cpus = halves()
        self.environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
        self.began = time.monotonic()
        self.rows = []

    def start(self):
        with on(self.daemon_cpus):
            return bench_service.Daemon(self.build, self.folder, self.environment, "--engine", "cpu", "--log-level", "info",
                                        "--socket-mode", "0666")

    def counters(self, daemon):
        return json.loads(bench_service.call([self.build / "flashcorectl", "stats", "--json", "--url", daemon.ipc], 20))

    def command(self, daemon, *words):
        return [str(word) for word in (self.build / "bench_client", "--url", daemon.ipc, "--quiet", "--json", "-", *words)]

    def spawn(self, daemon, *words, user=None):
        with on(self.load_cpus):
            return subprocess.Popen(self.command(daemon, *words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                    env=self.environment, user=user)

    def load(self, daemon, *words):
        """Runs one load; its figures and what the daemon said and took meanwhile. An impatient client may fail to connect."""
        time.sleep(self.args.pause)
        for _ in range(3):
            row = self.try_load(daemon, *words)
            if row is not None:
                return row
        raise RuntimeError("bench_client %s failed" % " ".join(str(word) for word in words))

    def try_load(self, daemon, *words):
        before, before_at, (ran_s, waited_s) = self.counters(daemon), time.monotonic(), starved(daemon.process.pid)
        client = self.spawn(daemon, "--duration", self.args.seconds, "--warmup", self.args.seconds / 4, *words)
        out, _ = client.communicate(timeout=120)
        took_s = time.monotonic() - before_at
        after, (ran_now_s, waited_now_s) = self.counters(daemon), starved(daemon.process.pid)
        ran_s, waited_s = ran_now_s - ran_s, waited_now_s - waited_s
        if not out:
            return None
        figures = json.loads(out)
        answers = max(1, after["launched_requests"] - before["launched_requests"])
        return {"ok_per_s": figures["requests_per_s"] - figures.get("late_answers", 0) / self.args.seconds,
                "late": figures.get("late_answers", 0), "errors": figures["errors"], "p50_us": figures["p50_us"],
                "p99_us": figures["p99_us"], "sent_per_s": figures.get("schedule", {}).get("sent", 0) / self.args.seconds,
                "busy_per_s": (after["replies_busy"] - before["replies_busy"]) / took_s,
                "busy_per_answer": (after["replies_busy"] - before["replies_busy"]) / answers,
                "cpu_us_per_answer": ran_s * 1e6 / answers, "starved": waited_s / max(ran_s + waited_s, 1e-9),
                "rss_mib": resident_mib(daemon.process.pid)}

    def point(self, about, daemon, *words):
        try:
            row = dict(about, **self.load(daemon, *words))
        except RuntimeError as error:  # the other loads and rounds go on
            print("%6.1f s  %s" % (time.monotonic() - self.began, error), flush=True)
            return None
        self.rows.append(row)
        print("%6.1f s  %s" % (time.monotonic() - self.began, overload_report.line(row)), flush=True)
        return row

    def saturation(self, shape, path):
        """The most that the closed loop reached, over the rounds so far, with as many calls as the queue takes."""
        return statistics.median([max(row["ok_per_s"] for row in self.rows if row["round"] == number and row["loop"] == "closed" and
                                      row["shape"] == shape and row["path"] == path and row["in_flight"] <= QUEUE)
                                  for number in {row["round"] for row in self.rows}])

    def around(self, daemon, number, shape, path):
        common = ["--shape", SHAPES[shape], "--path", path]
        about = {"round": number, "shape": shape, "path": path}
        for count in IN_FLIGHT[2:4] if self.args.quick else IN_FLIGHT:
            clients = min(count, 64)
            self.point(dict(about, loop="closed", in_flight=count), daemon, *common, "--clients", clients, "--inflight", count // clients)
        most = max(self.saturation(shape, path), 1)
        wide = common + ["--clients", OPEN_CLIENTS, "--inflight", OPEN_IN_FLIGHT]
        shares = SHARES[2:4] if self.args.quick else SHARES
        for share in shares:
            self.point(dict(about, loop="open", share=share, offered=share * most), daemon, *wide, "--rate", "%.1f" % (share * most),
                       "--timeout", 2)
        # The queue, full, takes twice as long as anybody waits.
        patience_s = QUEUE / most / 2
        for share in shares if shape == "long" else ():
            for how in ("timeout", "deadline"):
                self.point(dict(about, loop=how, share=share, offered=share * most, patience_s=patience_s), daemon, *wide,
                           "--rate", "%.1f" % (share * most), "--%s" % how, "%.6f" % patience_s)

    def loads(self, number):
        for shape in SHAPES:
            for path in PATHS[:1] if self.args.quick else PATHS:
                daemon = self.start()
                try:
                    self.around(daemon, number, shape, path)
                finally:
                    daemon.stop()

    def polite(self, daemon):
        client = self.spawn(daemon, "--shape", POLITE_SHAPE, "--clients", POLITE, "--duration", 2 * self.args.seconds, "--warmup",
                            self.args.seconds / 2)
        return json.loads(client.communicate(timeout=120)[0])

    def fairness(self, number):
        daemon = self.start()
        try:
            for name, words in FLOODERS.items():
                is_other = "another user" in name
                if is_other and os.geteuid() != 0:
                    continue
                shape = [] if "--shape" in words else ["--shape", POLITE_SHAPE]
                time.sleep(self.args.pause)
                alone = self.polite(daemon)
                flood = self.spawn(daemon, *words, *shape, "--duration", 3600, user=OTHER_USER if is_other else None)
                try:
                    time.sleep(self.args.seconds / 2)  # the flood is under way by then
                    beside = self.polite(daemon)
                finally:
                    flood.terminate()
                    flood.communicate()
                row = {"round": number, "loop": "flood", "flood": name, "rss_mib": resident_mib(daemon.process.pid),
                       "p50_ratio": (beside["p50_us"] or 0) / (alone["p50_us"] or 1),
                       "p99_ratio": (beside["p99_us"] or 0) / (alone["p99_us"] or 1),
                       "alone_p99_us": alone["p99_us"], "beside_p99_us": beside["p99_us"],
                       "errors": beside["error_count"]}
                self.rows.append(row)
                print("%6.1f s  %s" % (time.monotonic() - self.began, overload_report.line(row)), flush=True)
        finally:
            daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the folder that make filled")
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("--readme", help="where to put the figures")
    parser.add_argument("--rounds", type=int, default=3, help="how often each load is measured (default 3)")
    parser.add_argument("--seconds", type=float, default=1, help="of each load (default 1)")
    parser.add_argument("--pause", type=float, default=0, help="between loads, for others on the machine (default 0)")
    parser.add_argument("--quick", action="store_true", help="fewer loads: to see that it runs")
    parser.add_argument("--parts", choices=("all", "loads", "fairness"), default="all")
    args = parser.parse_args()
    path = pathlib.Path(args.out) / "overload_cpu.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    loads_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-overload.") as folder:
        os.chmod(folder, 0o755)
        bench = Overload(args, pathlib.Path(folder))
        for number in range(args.rounds):
            if args.parts != "fairness":
                bench.loads(number)
            if args.parts != "loads":
                bench.fairness(number)
    report = {"made": time.strftime("%Y-%m-%d"), "processor": bench_service.processor(), "processors": len(os.sched_getaffinity(0)),
              "load_average_before": loads_before, "rounds": args.rounds, "seconds": args.seconds, "rows": bench.rows}
    path.write_text(json.dumps(report, indent=1) + "\n")
    overload_report.publish(path, args.readme)


if __name__ == "__main__":
    main()
