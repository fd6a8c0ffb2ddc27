#!/usr/bin/env python3
"""Loads a daemon for hours with everything at once, verifies every answer, and looks at what grows.

Two daemons run. The steady one is never stopped: its memory, descriptors and arenas are what is looked at. The other is
stopped again and again, by SIGTERM (it drains) and now and then by SIGKILL, and started anew. Clients (bench_client
--verify: the first answer of each input against the double-precision reference, all later ones bit for bit against
that) ask for shapes drawn at random, over messages, shared memory and TCP; some know both daemons, and some are killed in
the middle of it.

Fails when an answer is wrong; when a client meets an error that no SIGKILL of its daemon explains; when memory of the
steady daemon at rest grows by more than --growth, or a GPU's that it holds at rest; when arenas outlive their clients,
or descriptors do beyond those the daemon counts as leaked by its socket library.

Under load the daemon holds the most that was under way at once, which grows with every larger load that is drawn. So memory is
judged at rest: every --rest seconds all clients end, nothing is asked for while the daemon gives memory back, and that is a
sample.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

KIB = 1024
READY_S, STOP_S, CLIENT_EXTRA_S, REST_S = 20, 30, 120, 60
GIVEN_BACK_S = 13  # a daemon gives message memory back ten seconds after the last large message, and looks each second
JUDGED_RESTS, JUDGED_S = 4, 600  # before, caches fill
DEVICE_GROWTH_MIB = 32  # from the first rest: kernels are loaded when they are first asked for
SAMPLE_S, KILLED_CLIENTS, KILLED_DAEMONS = 2.0, 0.2, 0.25
BARS = "▁▂▃▄▅▆▇█"


def free_ports(count):
    """Ports of the loopback that nobody has, below those the system gives to others: a daemon that is started anew has to
    get its own again."""
    ports = []
    for port in random.sample(range(10000, 32000), 200):
        try:
            socket.create_server(("127.0.0.1", port)).close()
            ports.append(port)
        except OSError:
            continue
        if len(ports) == count:
            return ports
    raise SystemExit("soak: no free port between 10000 and 32000; --ports names two")


def device_mib(pid):
    """What a process has of a GPU's memory; None: it has none, or nobody can say."""
    try:
        said = subprocess.run(["nvidia-smi", "--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits"],
                              capture_output=True, text=True, check=False).stdout
        return sum(int(mib) for owner, mib in (line.split(",") for line in said.splitlines()) if int(owner) == pid) or None
    except (OSError, ValueError):
        return None


class Daemon:
    """One flashcored with an ipc:// and a tcp:// listener; starts, stops and is looked at."""

    def __init__(self, args, folder, name, port):
        self.args, self.name = args, name
        self.ipc, self.tcp = "ipc://%s/%s.sock" % (folder, name), "tcp://127.0.0.1:%d" % port
        self.log = open(folder / (name + ".log"), "ab")
        self.process = None
        self.killed_at = -1e9

    def start(self):
        command = [str(self.args.build / "flashcored"), "--listen", self.ipc, "--listen", self.tcp, "--log-level", "warn"]
        self.process = subprocess.Popen(command + self.args.engine, stderr=self.log)
        until = time.monotonic() + READY_S
        while self.control("ping") is None:
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit("soak: %s does not come up; its log is %s" % (self.name, self.log.name))

    def stop(self, how):
        if how == signal.SIGKILL:
            self.killed_at = time.monotonic()
        self.process.send_signal(how)
        code = self.process.wait(timeout=STOP_S)
        if how == signal.SIGTERM and code != 0:
            raise SystemExit("soak: %s ended with %d instead of 0" % (self.name, code))

    def control(self, *words):
        """What flashcorectl says; None: it failed."""
        command = [str(self.args.build / "flashcorectl"), *words, "--url", self.ipc, "--timeout", "5"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None

    def look(self):
        """Memory in KiB, descriptors, and the server's own counters."""
        pid = self.process.pid
        status = pathlib.Path("/proc/%d/status" % pid).read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
        stats = json.loads(self.control("stats", "--json") or "{}")
        return {"rss_kib": rss, "descriptors": len(os.listdir("/proc/%d/fd" % pid)),
                "device_mib": device_mib(pid) if self.args.has_gpu else 0,
                "threads": len(os.listdir("/proc/%d/task" % pid)), "stats": stats}


class Client:
    """One run of bench_client with a load drawn at random."""

    def __init__(self, args, rng, daemons):
        self.began, self.urls = time.monotonic(), self.choose_urls(rng, daemons)
        self.duration = rng.uniform(1, 5)
        self.kill_at = self.began + rng.uniform(0.2, self.duration) if rng.random() < KILLED_CLIENTS else None
        self.is_killed = False
        command = [str(args.build / "bench_client"), "--verify", "--json", "-", "--warmup", "0",
                   "--duration", "%.2f" % self.duration, "--clients", str(rng.randint(1, 4))]
        for url in self.urls:
            command += ["--url", url]
        self.load = self.draw(rng, args.has_gpu)
        command += self.load
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @staticmethod
    def choose_urls(rng, daemons):
        steady, restless = daemons
        return rng.choice([[steady.ipc], [steady.ipc], [steady.tcp], [steady.ipc, restless.ipc],
                           [restless.tcp, steady.tcp]])

    def draw(self, rng, has_gpu):
        heads, groups, dim = rng.choice([1, 2, 4]), rng.choice([1, 2]), 8 * rng.randint(1, 32)
        shape = "%d,%d,%d,%d" % (rng.randint(1, 3), heads * groups, rng.choice([1, 7, 64, 113, 200]), dim)
        load = ["--shape", shape, "--kv-heads", str(heads), "--dtype", rng.choice(["f16", "bf16", "f32"]),
                "--causal", rng.choice(["none", "top_left", "bottom_right"]), "--layout", rng.choice(["bhsd", "bshd"]),
                "--seed", str(rng.randint(0, 10 ** 6)), "--inflight", str(rng.choice([1, 2, 8]))]
        if rng.random() < 0.3:
            load += ["--lse"]
        if rng.random() < 0.2:
            load += ["--softcap", "20"]
        if rng.random() < 0.2:
            load += ["--window", "%d,%d" % (rng.randint(-1, 50), rng.randint(-1, 50))]
        if len(self.urls) == 1 and self.urls[0].startswith("ipc"):
            load += ["--path", rng.choice(["auto", "inline", "arena"] + ["device"] * has_gpu)]
        return load

    def is_over(self):
        if self.kill_at is not None and time.monotonic() > self.kill_at and not self.is_killed:
            self.is_killed = True
            self.process.kill()
        if self.process.poll() is not None:
            return True
        if time.monotonic() > self.began + self.duration + CLIENT_EXTRA_S:
            self.process.kill()
            raise SystemExit("soak: a client hangs: %s %s" % (self.urls, " ".join(self.load)))
        return False


class Tally:
    """What all clients came to."""

    def __init__(self):
        self.answers = self.verified = self.wrong = self.clients = self.killed = self.restarts = 0
        self.errors, self.excused = collections.Counter(), collections.Counter()
        self.faults = []

    def take(self, client, daemons):
        out, err = client.process.communicate()
        self.clients += 1
        if client.is_killed:
            self.killed += 1
            return
        if not out.strip():
            if client.process.returncode != 0 and self.may_fail(client, daemons):
                self.excused["no report"] += 1
            else:
                self.faults.append("%s: %s" % (" ".join(client.load), err.strip()[-300:]))
            return
        report = json.loads(out)
        self.answers += report["answers"]
        self.verified += report["verified_answers"]
        self.wrong += report["wrong_answers"]
        if report["wrong_answers"]:
            self.faults.append("wrong: %s at %s" % (" ".join(client.load), client.urls))
        into = self.excused if self.may_fail(client, daemons) else self.errors
        into.update(report["errors"])

    @staticmethod
    def may_fail(client, daemons):
        """One of its daemons was killed while it ran."""
        return any(url in (d.ipc, d.tcp) and d.killed_at >= client.began - 1 for d in daemons for url in client.urls)


def rest_of(began, seen):
    return time.monotonic() - began, seen["rss_kib"], seen["device_mib"]


def growth_kib_per_hour(rests):
    """Slope of memory at rest over time after the first rest (least squares); None: too few, too early."""
    kept = rests[1:]
    if len(rests) < JUDGED_RESTS or rests[-1][0] < JUDGED_S:
        return None
    mean_t = sum(t for t, _, _ in kept) / len(kept)
    mean_m = sum(m for _, m, _ in kept) / len(kept)
    spread = sum((t - mean_t) ** 2 for t, _, _ in kept)
    return 3600 * sum((t - mean_t) * (m - mean_m) for t, m, _ in kept) / spread


def picture(values, columns=60):
    """Values as a line of bars."""
    if not values:
        return ""
    step = max(1, len(values) // columns)
    means = [sum(values[i:i + step]) / len(values[i:i + step]) for i in range(0, len(values), step)]
    low, high = min(means), max(means)
    return "".join(BARS[int((v - low) / (high - low or 1) * (len(BARS) - 1))] for v in means)


def end_clients(clients, daemons, tally):
    """Waits for them, and for the steady daemon to give back what they had it hold."""
    for client in clients:
        client.process.wait(timeout=client.duration + CLIENT_EXTRA_S)
        tally.take(client, daemons)
    clients.clear()
    time.sleep(GIVEN_BACK_S)


def await_rest(steady, at_rest):
    """Waits until nothing of the clients is left; what is left after that."""
    until = time.monotonic() + REST_S
    while True:
        now = steady.look()
        left = {"arenas": now["stats"].get("arenas", 0), "queued": now["stats"].get("queued", 0),
                "running": now["stats"].get("running", 0),
                "descriptors": now["descriptors"] - at_rest["descriptors"] - now["stats"].get("pipes_leaked", 0)}
        if all(v <= 0 for v in left.values()) or time.monotonic() > until:
            return {k: v for k, v in left.items() if v > 0}, now


def run(args, daemons, tally):
    rng = random.Random(args.seed)
    steady, restless = daemons
    at_rest = steady.look()
    began = last_sample = last_line = time.monotonic()
    next_restart, next_rest = began + args.restart, began + args.rest
    samples, rests, clients = [], [], []
    while time.monotonic() < began + args.seconds:
        while len(clients) < args.clients:
            clients.append(Client(args, rng, daemons))
        for client in [c for c in clients if c.is_over()]:
            clients.remove(client)
            tally.take(client, daemons)
        now = time.monotonic()
        if now > next_restart:
            restless.stop(signal.SIGKILL if rng.random() < KILLED_DAEMONS else signal.SIGTERM)
            restless.start()
            tally.restarts += 1
            next_restart = now + args.restart
        if now > next_rest:
            end_clients(clients, daemons, tally)
            rests.append(rest_of(began, steady.look()))
            next_rest = time.monotonic() + args.rest
        if now - last_sample >= SAMPLE_S:
            last_sample = now
            seen = steady.look()
            samples.append((now - began, seen["rss_kib"], seen["descriptors"], seen["threads"], seen["device_mib"]))
        if now - last_line >= args.every:
            last_line = now
            print("%6.0f s  %9d verified  %d wrong  %d errors  %4d clients  %3d killed  %3d restarts  %6.1f MiB  %3d fds" % (
                now - began, tally.verified, tally.wrong, sum(tally.errors.values()), tally.clients, tally.killed,
                tally.restarts, samples[-1][1] / KIB if samples else 0, samples[-1][2] if samples else 0), flush=True)
        time.sleep(0.02)
    end_clients(clients, daemons, tally)
    left, last = await_rest(steady, at_rest)
    rests.append(rest_of(began, last))
    return samples, rests, at_rest, left, last


def print_table(at_rest, samples, rests, last, growth):
    """What the steady daemon held: before the first client, while they came and went, and after the last."""
    rows = [("memory, MiB", "%.1f", 1, "rss_kib", KIB), ("descriptors", "%d", 2, "descriptors", 1),
            ("threads", "%d", 3, "threads", 1), ("GPU, MiB", "%d", 4, "device_mib", 1)]
    print("\nsteady daemon      before      least     median       most      after")
    for name, form, column, key, unit in rows:
        seen = sorted(sample[column] for sample in samples) or [0]
        values = [at_rest[key], seen[0], seen[len(seen) // 2], seen[-1], last[key]]
        print("%-12s" % name + "".join("%11s" % (form % (v / unit)) for v in values))
    print("memory over time\n  %s" % picture([s[1] for s in samples]))
    print("at rest, MiB: %s; %s" % (" ".join("%.1f" % (m / KIB) for _, m, _ in rests),
                                    "%+.2f an hour" % (growth / KIB) if growth is not None else
                                    "not judged before %d s and %d rests" % (JUDGED_S, JUDGED_RESTS)))


def report(args, tally, samples, rests, at_rest, left, last):
    growth = growth_kib_per_hour(rests)
    failed = list(tally.faults)
    failed += ["%d errors %s" % (n, name) for name, n in tally.errors.items()]
    failed += ["%s left over: %d" % item for item in left.items()]
    if rests[-1][2] > rests[0][2] + DEVICE_GROWTH_MIB:
        failed.append("the GPU's memory at rest grew from %d to %d MiB" % (rests[0][2], rests[-1][2]))
    if growth is not None and growth > args.growth * KIB:
        failed.append("memory grows by %.1f MiB an hour; at most %.1f" % (growth / KIB, args.growth))
    if tally.verified == 0:
        failed.append("no answer was verified")
    print_table(at_rest, samples, rests, last, growth)
    print("%d answers verified, %d wrong; %d clients, %d of them killed; %d restarts of the other daemon" % (
        tally.verified, tally.wrong, tally.clients, tally.killed, tally.restarts))
    print("errors of clients whose daemon was killed: %s" % (dict(tally.excused) or "none"))
    for line in failed:
        print("FAILED: " + line)
    if args.json:
        args.json.write_text(json.dumps({
            "seconds": args.seconds, "seed": args.seed, "engine": args.engine, "verified": tally.verified,
            "wrong": tally.wrong, "clients": tally.clients, "killed": tally.killed, "restarts": tally.restarts,
            "errors": tally.errors, "excused": tally.excused, "growth_kib_per_hour": growth, "rests": rests,
            "samples": samples, "at_rest": at_rest, "left": left, "last": last, "failed": failed}, indent=1) + "\n")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"), help="folder of the programs")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=3, help="clients at once")
    parser.add_argument("--restart", type=float, default=20, help="seconds between restarts of the other daemon")
    parser.add_argument("--rest", type=float, default=300, help="seconds of load between looks at memory at rest")
    parser.add_argument("--growth", type=float, default=8, help="MiB an hour the steady daemon may grow by, at rest")
    parser.add_argument("--every", type=float, default=10, help="seconds between lines of progress")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--ports", type=int, nargs=2, help="of the tcp:// listeners; without it two that are free")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("engine", nargs="*", help="further flags of the daemons, after --")
    args = parser.parse_args()
    ports = args.ports or free_ports(2)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fc-soak-") as folder:
        daemons = [Daemon(args, pathlib.Path(folder), name, ports[i]) for i, name in enumerate(("steady", "other"))]
        try:
            args.has_gpu = False
            for daemon in daemons:
                daemon.start()
            args.has_gpu = device_mib(daemons[0].process.pid) is not None
            print("soak: %.0f s, seed %d" % (args.seconds, args.seed), flush=True)
            result = report(args, tally, *run(args, daemons, tally))
            for daemon in daemons:
                daemon.stop(signal.SIGTERM)
        finally:
            for daemon in daemons:
                if daemon.process is not None and daemon.process.poll() is None:
                    daemon.process.kill()
            if sys.exc_info()[0] is not None or tally.faults or tally.errors:
                for daemon in daemons:
                    sys.stdout.write(pathlib.Path(daemon.log.name).read_text()[-2000:])
    return result


if __name__ == "__main__":
    sys.exit(main())
