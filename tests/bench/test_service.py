#!/usr/bin/env python3
"""Does bench_service.py still run from end to end, and does service_report.py judge rightly? FC_TEST_BUILD: the build.

The runs are short and their figures mean nothing; one is of the CPU engine, one of the CUDA engine on the fake runtime.
"""
import copy
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import overload_report
import service_report

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("FC_TEST_BUILD", "build"))

# As much of a report as the targets ask for.
REPORT = {
    "engine": "cuda", "processors": 2, "processor": "one", "made": "2026-01-01", "failed": [], "skipped": [],
    "peer": {"1": {"p50_us": 8000, "p99_us": 9000, "requests_per_s": 120}},
    "daemon": {"start_s": 1.5, "at_rest_kb": {"own": 70000, "files": 30000, "driver": 999999, "shared": 999999}},
    "floors": {
        "hop": {"bare": {"p50_us": 20}, "ping": {"p50_us": 29}, "bare_pipelined": {"per_second": 2e5},
                "ping_pipelined": {"per_second": 99999}},
        "bare": [{"cuda_init_s": 9, "resident_kb": {"own": 0, "files": 0}},
                 {"cuda_init_s": 0.4, "resident_kb": {"own": 20000, "files": 20000}}],
        "echo": {},
        "gpu": {"device": "G", "shapes": {service_report.MAIN: {
            "kernel": "fused", "launch": {"p50_us": 15}, "copy_in": {"p50_us": 40}, "copy_out": {"p50_us": 17},
            "stream": {"p50_us": 60}, "pipeline": {"per_second": 20000}, "kernels": {"per_second": 90000}}}}},
    "service": [
        {"path": "arena", "clients": 1, "shape": service_report.MAIN, "loop": "closed", "p50_us": 95, "p99_us": 200,
         "requests_per_s": 9000, "answers": 9, "error_count": 0},
        {"path": "arena", "clients": 16, "shape": service_report.MAIN, "loop": "closed", "p50_us": 700, "p99_us": 900,
         "requests_per_s": 17999, "answers": 9, "error_count": 0}]}


def run(folder, *arguments):
    done = subprocess.run([sys.executable, str(HERE / "bench_service.py"), "--quick", "--budget", "1000", "--build", str(BUILD),
                           "--out", folder, *arguments], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    engine = arguments[arguments.index("--engine") + 1]
    return json.loads((pathlib.Path(folder) / ("service_%s.json" % engine)).read_text()), done.stdout


class Runs(unittest.TestCase):
    def check(self, report, printed):
        self.assertEqual(report["failed"], [])
        self.assertEqual(report["daemon"]["exit_status"], 0)
        paths = {row["path"] for row in report["service"]}
        self.assertLessEqual({"inline ipc", "inline tcp", "staged", "arena"}, paths)
        for row in report["service"]:
            self.assertEqual(row["wrong_answers"], 0)
            self.assertTrue(row["loop"] != "verified" or row["verified_answers"] > 0, row)
        self.assertIn("Targets:", printed)
        self.assertIn("hop", report["floors"])
        self.assertEqual(len(report["floors"]["echo"]), 4)
        self.assertTrue(service_report.readme_block(report, "x").endswith(service_report.END))

    def test_cpu_engine(self):
        with tempfile.TemporaryDirectory() as folder:
            report, printed = run(folder, "--engine", "cpu")
            self.check(report, printed)
            self.assertIn("open", {row["loop"] for row in report["service"]})
            self.assertIn("<svg", (pathlib.Path(folder) / "service_cpu.svg").read_text())

    def test_cuda_engine_on_the_fake_runtime(self):
        with tempfile.TemporaryDirectory() as folder:
            report, printed = run(folder, "--engine", "cuda", "--gpu-floors", "gpu_floors_fake", "--cuda-engine",
                                  str(BUILD / "tests" / "flashcore-cuda-fake.so"),
                                  "--library-path", str((BUILD / "tests" / "driver").resolve()))
            self.check(report, printed)
            self.assertEqual(set(report["floors"]["gpu"]["shapes"]), {service_report.MAIN, service_report.SMALL})
            self.assertEqual(len(report["floors"]["bare"]), 2)

    def test_a_missing_program_costs_its_part_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            report, _ = run(folder, "--engine", "cpu", "--peer-python", "/nonexistent/python")
            self.assertEqual(len(report["failed"]), 1)
            self.assertIn("Python gRPC", report["failed"][0])
            self.assertGreater(len(report["service"]), 5)


class Overload(unittest.TestCase):
    def test_it_runs(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([sys.executable, str(HERE / "bench_overload.py"), "--build", str(BUILD), "--out", folder, "--rounds", "1",
                                   "--seconds", "0.1", "--quick"], capture_output=True, text=True, timeout=300, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            path = pathlib.Path(folder) / "overload_cpu.json"
            report = json.loads(path.read_text())
            self.assertEqual({row["loop"] for row in report["rows"]}, {"closed", "open", "timeout", "deadline", "flood"})
            self.assertIn("</svg>", path.with_suffix(".svg").read_text())
            self.assertTrue(overload_report.block(report, "docs/bench/x.json").endswith(overload_report.END))


class Verdicts(unittest.TestCase):
    def verdicts(self, report):
        return {target.what: service_report.verdict(target) for target in service_report.targets(report)}

    def test_held_to_the_floors_of_the_same_run(self):
        of = self.verdicts(REPORT)
        self.assertEqual(of["arena, 1 client: p50"], "reached")  # 95 of 60 + 20 + 15
        self.assertEqual(of["arena, 16 clients: throughput"], "NOT reached")  # 17999 of 0.9 x 20000
        self.assertEqual(of["ping, local channel, 16 in flight: throughput"], "NOT reached")
        self.assertEqual(of["ping, local channel, 1 client: p50"], "reached")  # 29 of 1.5 x 20
        self.assertEqual(of["arena p50 at 1 client, times below Python gRPC + PyTorch"], "reached")  # 84 of 50
        self.assertEqual(of["arena throughput at 16, times above it"], "not measured")
        self.assertEqual(of["host memory at rest beyond CUDA's own and staging"], "reached")  # 60000 KiB of 64 MiB
        self.assertEqual(of["start to ready beyond CUDA's own initialisation"], "NOT reached")  # 1.5 - 0.4

    def test_a_quick_bare_socket_asks_for_15_us(self):
        report = copy.deepcopy(REPORT)
        report["floors"]["hop"]["bare"]["p50_us"] = 9
        self.assertEqual(self.verdicts(report)["ping, local channel, 1 client: p50"], "NOT reached")

    def test_nothing_measured_is_no_verdict(self):
        report = dict(REPORT, floors={"echo": {}}, service=[], peer={}, daemon={})
        self.assertEqual(set(self.verdicts(report).values()), {"not measured"})
        self.assertTrue(service_report.readme_block(report, "x"))


if __name__ == "__main__":
    unittest.main()
