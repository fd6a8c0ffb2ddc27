#!/usr/bin/env python3
"""Measures the service against what the machine alone takes: floors first, then the daemon, in one run.

bench_service.py --build build --out docs/bench [--engine cuda] [--peer-python python3] [--readme README.md]

Writes OUT/service_ENGINE.json, raw figures, and what service_report.py makes of them: the table it prints, the chart beside
the JSON and, from a GPU, README's block. A part that fails is named in it under "failed", one the build at hand lacks or that the time no longer allows under "skipped", and the
rest goes on; the file is written anew after each part. Needs Python alone; the peer (grpc_peer.py) torch, grpcio and protobuf.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import tempfile
import time

import service_report
from service_report import MAIN, SMALL

HERE = pathlib.Path(__file__).resolve().parent
CPU_SHAPES = (MAIN, "1,8,1024,64", "1,8,2048,64")
# How a caller's tensors get there, as bench_client is told: (name, which socket, --path).
PATHS = (("inline ipc", "ipc", "inline"), ("inline tcp", "tcp", "inline"), ("staged", "ipc", "auto"), ("arena", "ipc", "arena"),
         ("device", "ipc", "device"))
AWAKE_US = 200  # longer than a request takes
LOADED = ("inline ipc", "arena", "device")  # in the open loop, on short sequences, and without spinning
CLIENTS = (1, 4, 16, 64)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2)  # of the closed loop's rate, offered in the open loop
KEPT = ("requests_per_s", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "min_us", "mean_us", "answers", "wrong_answers",
        "verified_answers", "error_count", "errors", "first_error", "first_wrong", "mean_parts_us", "requests_per_launch",
        "kernel", "device", "schedule")


class Skipped(Exception):
    """A part that this build or this machine does not have."""


def call(arguments, limit_s, environment=None):
    """Standard output of a program that has to end well."""
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, timeout=limit_s, env=environment)
    if done.returncode != 0:
        raise RuntimeError("%s: status %d: %s" % (arguments[0], done.returncode, done.stderr.strip()[-300:]))
    return done.stdout


def resident_kb(pid):
    """A process's resident memory by what it is: the driver's mappings (staging that CUDA allocated lies there too), memory
    shared with clients, files, and the rest, which is its own."""
    kinds, kind = {"driver": 0, "shared": 0, "files": 0, "own": 0}, "own"
    for line in pathlib.Path("/proc/%d/smaps" % pid).read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            name = words[5] if len(words) > 5 else ""
            kind = ("driver" if name.startswith("/dev/") else "shared" if name.startswith("/memfd:") else
                    "files" if name.startswith("/") else "own")
        elif words[0] == "Rss:":
            kinds[kind] += int(words[1])
    return kinds


class Daemon:
    """flashcored on sockets of its own in a folder; ready when the constructor returns."""

    def __init__(self, build, folder, environment, *arguments):
        self.log = folder / "flashcored.log"
        self.ipc = "ipc://%s/s" % folder
        with open(self.log, "w") as log:
            begin = time.monotonic()
            self.process = subprocess.Popen([str(build / "flashcored"), "--listen", self.ipc, "--listen", "tcp://127.0.0.1:0",
                                             *arguments], stderr=log, stdout=log, env=environment)
        while "event=ready" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > begin + 30:
                self.stop()
                raise RuntimeError("flashcored did not start: %s" % self.log.read_text()[-300:])
            time.sleep(0.002)
        self.start_s = time.monotonic() - begin
        self.tcp = [word[4:].strip('"') for word in self.log.read_text().split() if word.startswith("url=")][-1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Bench:
    def __init__(self, args, folder, report):
        self.report = report
        self.path = pathlib.Path(args.out) / ("service_%s.json" % args.engine)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.args, self.folder, self.build = args, folder, pathlib.Path(args.build)
        self.environment = environment_of(args)
        self.began = time.monotonic()
        self.seconds = 0.1 if args.quick else args.seconds
        self.clients = CLIENTS[:2] if args.quick else CLIENTS
        self.shares = SHARES[2::3] if args.quick else SHARES
        self.is_cuda = args.engine == "cuda"
        self.options = self.flags("flashcored")
        ways = re.search(r"--path WAY.*?one of ([^\]]*)", self.flags("bench_client"), re.S).group(1)
        self.paths = [path for path in PATHS if path[2] in re.split(r"\W+", ways) and (path[0] != "device" or self.is_cuda)]
        if len(self.paths) < len(PATHS):
            self.note("skipped", "device arenas: not in this build, or not on this engine")

    # --- the report -------------------------------------------------------------------------------------------------

    def note(self, list_name, text):
        self.report[list_name].append(text)
        print("%5.1f s  %s: %s" % (time.monotonic() - self.began, list_name, text), flush=True)

    def save(self):
        self.report["seconds"] = round(time.monotonic() - self.began, 1)
        path = self.path
        path.with_suffix(".new").write_text(json.dumps(self.report, indent=1) + "\n")
        path.with_suffix(".new").replace(path)

    def part(self, name, function, *arguments):
        """Runs one part; whatever it raises is noted, and None comes back."""
        if time.monotonic() > self.began + self.args.budget:
            return self.note("skipped", name + ": no time left")
        try:
            result = function(*arguments)
            print("%5.1f s  %s" % (time.monotonic() - self.began, name), flush=True)
            return result
        except Skipped as reason:
            return self.note("skipped", "%s: %s" % (name, reason))
        except Exception as error:  # pylint: disable=broad-except
            return self.note("failed", "%s: %s" % (name, error or type(error).__name__))
        finally:
            self.save()

    # --- floors -----------------------------------------------------------------------------------------------------

    def flags(self, program):
        return call([self.build / program, "--help"], 20, self.environment)

    def floor(self, name, *arguments):
        return json.loads(call([self.build / "bench" / name, *arguments], 60, self.environment))

    def bare_cuda(self):
        """CUDA's own initialisation and memory, in a process that does nothing else."""
        process = subprocess.Popen([str(self.build / "bench" / self.args.gpu_floors), "init"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True, env=self.environment)
        try:
            line = process.stdout.readline()
            return dict(json.loads(line), resident_kb=resident_kb(process.pid))
        finally:
            process.stdin.close()
            process.wait(20)

    def echoes(self):
        for scheme in ("ipc", "tcp"):
            for clients in self.clients:
                # The kernel's choice of a free port is good for the moment that it takes to listen.
                url = "ipc://%s/echo" % self.folder if scheme == "ipc" else "tcp://127.0.0.1:%d" % free_port()
                key = "%s %d" % (scheme, clients)
                self.report["floors"]["echo"][key] = self.floor("service_echo", url, clients, MAIN, self.seconds)

    def floors(self):
        floors = self.report["floors"]
        if self.is_cuda:
            self.part("CUDA alone", lambda: floors.update(bare=[self.bare_cuda(), self.bare_cuda()]))
            self.part("floors of the GPU", lambda: floors.update(
                gpu=self.floor(self.args.gpu_floors, self.seconds / 2, MAIN, SMALL)))
        self.part("floors of the host", lambda: floors.update(
            host=self.floor("service_floors", *CPU_SHAPES, SMALL, self.seconds / 2)))
        self.part("echo", self.echoes)

    # --- the service ------------------------------------------------------------------------------------------------

    def start(self, *arguments, engine=None):
        engine = engine or self.args.engine
        more = ["--cuda-engine", self.args.cuda_engine] if self.args.cuda_engine and engine == "cuda" else []
        return Daemon(self.build, self.folder, self.environment, "--engine", engine, *more, *arguments)

    def load(self, daemon, path, clients, shape, *more, **about):
        """One run of bench_client. A schedule that was missed or requests answered busy are figures, not failures."""
        name, scheme, way = path
        command = [self.build / "bench_client", "--url", daemon.tcp if scheme == "tcp" else daemon.ipc, "--path", way,
                   "--clients", clients, "--shape", shape, "--duration", self.seconds, "--warmup", self.seconds / 5,
                   "--timeout", 10, "--quiet", "--json", "-", *more]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, env=self.environment)
        if not done.stdout:
            raise RuntimeError("bench_client: %s" % done.stderr.strip()[-300:])
        figures = json.loads(done.stdout)
        row = dict(path=name, clients=clients, shape=shape, **about, **{key: figures[key] for key in KEPT if key in figures})
        self.report["service"].append(row)
        if row["wrong_answers"] > 0:
            raise RuntimeError("wrong answers: %s" % row.get("first_wrong"))
        return row

    def closed(self, daemon, paths, clients, shape, *more, **about):
        for path in paths:
            for count in clients:
                self.part("%s, %d clients, %s%s" % (path[0], count, shape, "".join(", %s" % word for word in about.values())),
                          lambda: self.load(daemon, path, count, shape, *more, loop="closed", **about))

    def open_loop(self, daemon):
        """From little load to more than can be served: shares of what the closed loop reached."""
        for path in self.paths:
            most = max([row["requests_per_s"] for row in self.report["service"]
                        if row["path"] == path[0] and row["shape"] == MAIN and row["loop"] == "closed"] or [0])
            for share in self.shares if path[0] in LOADED and most > 0 else ():
                rate = most * share
                self.part("%s at %.0f/s" % (path[0], rate), lambda: self.load(
                    daemon, path, min(16, self.clients[-1]), MAIN, "--rate", "%.1f" % rate, loop="open", offered=rate))

    def verify(self, daemon):
        for path in self.paths:
            self.part("%s, verified" % path[0], lambda: self.load(
                daemon, path, 1, MAIN, "--inputs", 1, "--verify", loop="verified"))

    def service(self):
        daemon = self.part("start", self.start)
        if daemon is None:
            return
        try:
            self.report["daemon"].update(start_s=daemon.start_s, at_rest_kb=resident_kb(daemon.process.pid))
            self.part("ping", lambda: self.report["floors"].update(
                hop=self.floor("local_hop", daemon.ipc[len("ipc://"):] + ".local", self.seconds / 2)))
            self.verify(daemon)
            self.closed(daemon, self.paths, self.clients, MAIN)
            self.closed(daemon, [path for path in self.paths if path[0] in LOADED], self.clients[::2], SMALL)
            self.closed(daemon, [path for path in self.paths if path[0] in ("arena", "device")], (1,), MAIN, "--spin-us", AWAKE_US,
                        spin="the client awake too")
            self.report["daemon"]["after_kb"] = resident_kb(daemon.process.pid)
        finally:
            self.report["daemon"]["exit_status"] = daemon.stop()

    def sleeping(self):
        """Lanes that never wait awake, as where cores are dear."""
        if "--spin-us" not in self.options:
            raise Skipped("this flashcored has no --spin-us")
        daemon = self.start("--spin-us", "0")
        try:
            paths = [path for path in self.paths if path[0] in LOADED]
            self.closed(daemon, paths, self.clients[::2], MAIN, spin="--spin-us 0")
            self.closed(daemon, paths, self.clients[::2], SMALL, spin="--spin-us 0")
        finally:
            daemon.stop()

    def loaded(self):
        daemon = self.start()
        try:
            self.open_loop(daemon)
        finally:
            daemon.stop()

    def cpu_engine(self):
        """The CPU engine's kernel takes long enough that everything else has to vanish beside it."""
        daemon = self.start(engine="cpu")
        try:
            arena = [path for path in self.paths if path[0] == "arena"]
            for shape in CPU_SHAPES:
                self.closed(daemon, arena, (1,), shape, on="cpu engine")
            self.closed(daemon, arena, (1,), MAIN, "--spin-us", 100 * AWAKE_US, on="cpu engine", spin="the client awake too")
        finally:
            daemon.stop()

    # --- the peer ---------------------------------------------------------------------------------------------------

    def peer(self):
        program = [self.args.peer_python, str(HERE / "grpc_peer.py")]
        with open(self.folder / "peer.log", "w") as log:
            server = subprocess.Popen(program + ["serve", MAIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = server.stdout.readline()
            if not line:
                raise Skipped("it does not start: " + ((self.folder / "peer.log").read_text().strip().splitlines() or [""])[-1])
            about = json.loads(line)
            self.report["peer"].update(about=about)
            for clients in [count for count in self.clients if count <= 16]:
                self.report["peer"][str(clients)] = json.loads(call(
                    program + ["drive", about["address"], MAIN, clients, 2 * self.seconds], 60))
        finally:
            server.stdin.close()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def run(self):
        self.floors()
        self.part("service", self.service)
        if self.is_cuda:
            self.part("service that does not spin", self.sleeping)
        if self.args.peer_python:
            self.part("Python gRPC and PyTorch", self.peer)
        self.part("the CPU engine", self.cpu_engine)
        self.part("service under offered load", self.loaded)
        self.save()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment_of(args):
    """Of what was built. The peer's Python keeps its own libraries."""
    more = {"LD_LIBRARY_PATH": str(pathlib.Path(args.library_path).resolve())} if args.library_path else {}
    return {"OMP_WAIT_POLICY": "passive", **os.environ, **more}  # as the systemd unit has it


def has_gpu(args):
    program = pathlib.Path(args.build) / "bench" / args.gpu_floors
    return program.exists() and subprocess.run([str(program), "init"], stdin=subprocess.DEVNULL, capture_output=True,
                                               timeout=60, env=environment_of(args)).returncode == 0


def throttled_us():
    """How long the machine has held this group of processes back, by its quota of processors; None: it does not say."""
    try:
        words = pathlib.Path("/sys/fs/cgroup/cpu.stat").read_text().split()
        return int(words[words.index("throttled_usec") + 1])
    except (OSError, ValueError):
        return None


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the folder that make filled")
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("--readme", help="where to put the block of figures, when they are a GPU's")
    parser.add_argument("--engine", choices=("auto", "cuda", "cpu"), default="auto", help="auto: the GPU where there is one")
    parser.add_argument("--cuda-engine", help="the CUDA engine, when it is not beside flashcored")
    parser.add_argument("--library-path", help="a folder of shared libraries that the build needs and this machine lacks")
    parser.add_argument("--gpu-floors", default="gpu_floors", help="the program of that name in BUILD/bench")
    parser.add_argument("--seconds", type=float, default=1, help="of each load (default 1)")
    parser.add_argument("--budget", type=float, default=240, help="seconds after which no further part begins (default 240)")
    parser.add_argument("--peer-python", help="a Python that has torch, grpcio and protobuf; without it the peer is left out")
    parser.add_argument("--quick", action="store_true", help="a tenth of a second each, fewer clients: to see that it runs")
    args = parser.parse_args()
    if args.engine == "auto":
        args.engine = "cuda" if has_gpu(args) else "cpu"
    report = {"made": time.strftime("%Y-%m-%d"), "engine": args.engine, "is_quick": args.quick, "processor": processor(),
              "processors": len(os.sched_getaffinity(0)), "kernel": platform.release(),
              "floors": {"echo": {}}, "daemon": {}, "service": [], "peer": {}, "failed": [], "skipped": []}
    with tempfile.TemporaryDirectory(prefix="bench-service.") as folder:
        bench = Bench(args, pathlib.Path(folder), report)
        before_us = throttled_us()
        bench.run()
        report["throttled_us"] = None if before_us is None else throttled_us() - before_us
        bench.save()
    service_report.publish(bench.path, bench.path.with_suffix(".svg"), args.readme if args.engine == "cuda" else None)


if __name__ == "__main__":
    main()
