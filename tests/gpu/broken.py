#!/usr/bin/env python3
"""Breaks a real GPU under the daemon, and sees that it ends as its manual says, that every request has one end and the
right one, and that the next daemon serves.

broken.py --build build --library build/gpu/broken.so [--out FOLDER] [-- FLAGS]

A library of the tests' own is preloaded into the daemon (broken.cu): it launches a kernel that fills the GPU, stores to an
address that is nobody's, or traps, beside the lanes and under load or at rest. One line a case, and "ok" or what was not
as it should be; the daemons' logs go to --out. About five seconds a case. Ends with 1 when a case failed.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

KERNEL_TIMEOUT_S = 2
# (name, order, flags of bench_client or None: nobody asks for anything, exit code, seconds that may pass until the end)
CASES = (
    ("hang under load", "hang 20", ("--clients", "16", "--path", "arena"), 5, 15),
    ("hang, messages", "hang 20", ("--clients", "16", "--path", "inline"), 5, 15),
    ("hang, 64 in flight", "hang 20", ("--clients", "4", "--inflight", "16", "--path", "arena"), 5, 15),
    ("hang at rest", "hang 20", None, 5, 40),
    ("address under load", "address 0", ("--clients", "16", "--path", "arena"), 4, 15),
    ("address, messages", "address 0", ("--clients", "16", "--path", "inline"), 4, 15),
    ("trap under load", "trap 0", ("--clients", "16", "--path", "arena"), 4, 15),
    ("address at rest", "address 0", None, 4, 40),
)
# What a caller may be told of a request that was under way, that waited, and that came when nobody was there any more.
ALLOWED = {"device_lost", "draining", "connection_lost", "unreachable", "timeout"}


class Daemon:
    def __init__(self, args, folder, preload, *flags):
        self.folder, self.order = folder, folder / "order"
        self.url, self.log = "ipc://%s/s" % folder, folder / "log"
        environment = dict(os.environ, FC_BROKEN_ORDER=str(self.order))
        if preload:
            environment["LD_PRELOAD"] = str(args.library.resolve())
        with open(self.log, "ab") as log:
            before, begin = log.tell(), time.monotonic()
            self.process = subprocess.Popen([str(args.build / "flashcored"), "--listen", self.url, "--engine", "cuda",
                                             *args.daemon, *flags], stderr=log, env=environment)
        while b"event=ready" not in self.log.read_bytes()[before:]:
            if self.process.poll() is not None or time.monotonic() > begin + 30:
                raise RuntimeError("no start: %s" % self.log.read_text(errors="replace")[-300:])
            time.sleep(0.01)
        self.start_s = time.monotonic() - begin


def load(args, url, flags, seconds, *more):
    return subprocess.Popen([str(args.build / "bench_client"), "--url", url, *flags, "--duration", str(seconds), "--warmup", "0",
                             "--timeout", "30", "--quiet", "--json", "-", *more],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def report_of(client, limit_s):
    out, err = client.communicate(timeout=limit_s)
    return json.loads(out) if out.strip() else {"answers": 0, "errors": {}, "first_error": err.strip()[-200:]}


def judge(faults, code, want, report):
    if code != want:
        faults.append("exit code %s instead of %d" % (code, want))
    if report is None:
        return
    if report["answers"] == 0:
        faults.append("no answer before it broke: %s" % report.get("first_error"))
    for name in report["errors"]:
        if name not in ALLOWED:
            faults.append("a request ended in %s" % name)


def run_case(args, folder, case):
    name, order, flags, want, limit_s = case
    faults, report = [], None
    metrics = "unix:%s/metrics" % folder
    daemon = Daemon(args, folder, True, "--kernel-timeout", "%ds" % KERNEL_TIMEOUT_S, "--metrics", metrics)
    client = load(args, daemon.url, flags, 3) if flags else None
    time.sleep(1)
    (folder / "new").write_text(order)
    (folder / "new").rename(daemon.order)
    begin = time.monotonic()
    try:
        code = daemon.process.wait(limit_s)
    except subprocess.TimeoutExpired:
        code = "none after %d s" % limit_s
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
    end_s = time.monotonic() - begin
    if client:
        report = report_of(client, 60)
    judge(faults, code, want, report)
    again = Daemon(args, folder, False)
    after = report_of(load(args, again.url, ("--clients", "4"), 0.3, "--verify"), 60)
    if after["answers"] == 0 or after["errors"] or after.get("wrong_answers"):
        faults.append("the next one: %s" % {key: after.get(key) for key in ("answers", "errors", "wrong_answers", "first_error")})
    again.process.terminate()
    if again.process.wait(30) != 0:
        faults.append("the next one ended with %s" % again.process.returncode)
    said = re.findall(r"event=(launch_hung|launch_failed|draining|stopped)", daemon.log.read_text(errors="replace"))
    print("%-20s exit %s after %5.2f s  next ready in %.2f s, %d answers  answers before %s, errors %s  log %s  %s" % (
        name, code, end_s, again.start_s, after["answers"], report and report["answers"], report and report["errors"],
        ",".join(sorted(set(said))), "; ".join(faults) or "ok"), flush=True)
    return not faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--library", type=pathlib.Path, required=True, help="broken.so")
    parser.add_argument("--out", type=pathlib.Path, help="where the daemons' logs go")
    parser.add_argument("daemon", nargs="*", help="further flags of the daemons, after --")
    args = parser.parse_args()
    passed = 0
    for case in CASES:
        with tempfile.TemporaryDirectory(prefix="fc-broken-") as folder:
            folder = pathlib.Path(folder)
            try:
                passed += run_case(args, folder, case)
            except Exception as error:  # pylint: disable=broad-except
                print("%-20s FAILED: %s" % (case[0], error), flush=True)
            if args.out and (folder / "log").exists():
                args.out.mkdir(parents=True, exist_ok=True)
                with open(args.out / "broken.log", "a") as log:
                    log.write("--- %s ---\n%s\n" % (case[0], (folder / "log").read_text(errors="replace")))
    print("%d of %d cases as they should be" % (passed, len(CASES)))
    return 0 if passed == len(CASES) else 1


if __name__ == "__main__":
    sys.exit(main())
