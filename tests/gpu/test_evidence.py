#!/usr/bin/env python3
"""evidence.py: digests change with what the compiler sees and with nothing else; false evidence is found out."""
import contextlib
import io
import json
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import evidence

RIGHT = ["case", 2e-4, 1.5e-4, 1e-3, 8e-4, 10, 1e-4, 1e-8, 1e-8, 1e-7, 1e-7, 10, 1e-7, 3, 3, 0]


class Tree(unittest.TestCase):
    """A copy of the sources, to be edited."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        for folder in ("kernels", "proto"):
            shutil.copytree(evidence.ROOT / folder, self.root / folder)
        (self.root / "tests/gpu/evidence").mkdir(parents=True)
        for file in ("Makefile", "tests/gpu/planted.txt"):
            shutil.copy(evidence.ROOT / file, self.root / file)
        self.before = evidence.ROOT, evidence.EVIDENCE, evidence.BENCHMARK
        evidence.ROOT, evidence.EVIDENCE = self.root, self.root / "tests/gpu/evidence"
        evidence.BENCHMARK = self.root / "none.json"
        self.addCleanup(self.restore)

    def restore(self):
        evidence.ROOT, evidence.EVIDENCE, evidence.BENCHMARK = self.before

    def edit(self, file, old, new):
        path = self.root / file
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, 1))

    def changed_by(self, file, old, new):
        before = {rung: evidence.digest(rung) for rung in evidence.cuda_rungs()}
        self.edit(file, old, new)
        return {rung for rung in before if evidence.digest(rung) != before[rung]}

    def test_comments_layout_and_prototypes_do_not_count(self):
        self.assertEqual(self.changed_by("kernels/vec.cu", "constexpr int THREADS = 128;", "constexpr  int THREADS=128; // x"), set())
        self.assertEqual(self.changed_by("kernels/attention.h", "const char *fc_kernel_name(", "int fc_new(int a);\nconst char *fc_kernel_name("), set())

    def test_code_counts_for_its_rung_alone(self):
        self.assertEqual(self.changed_by("kernels/vec.cu", "THREADS = 128", "THREADS = 256"), {"vec"})
        self.assertEqual(self.changed_by("kernels/attention_tile.h", "FC_TILE_VEC_Q 16", "FC_TILE_VEC_Q 8"), {"vec"})

    def test_shared_steps_count_for_all_that_use_them(self):
        changed = self.changed_by("kernels/softmax.cuh", "logf(sum)", "log2f(sum)")
        self.assertLessEqual({"baseline", "vec"}, changed)

    def test_what_nobody_uses_does_not_count(self):
        new = "static __device__ __forceinline__ float fc_nobodys(float x)\n{\n    return x;\n}\n\nstruct fc_scoring {"
        self.assertEqual(self.changed_by("kernels/softmax.cuh", "struct fc_scoring {", new), set())

    def test_the_architecture_counts_for_all(self):
        changed = self.changed_by("Makefile", "-gencode arch=compute_89,code=sm_89", "-gencode arch=compute_86,code=sm_86")
        self.assertEqual(changed, set(evidence.cuda_rungs()))

    def prove(self, rung, rows):
        made = {"rung": rung, "digest": evidence.digest(rung), "made": "today", "planted": {}, "columns": []}
        evidence.write_evidence(evidence.EVIDENCE / (rung + ".json"), made, rows)

    def findings(self, rung):
        with contextlib.redirect_stderr(io.StringIO()):
            return list(evidence.check_rung(rung))

    def test_evidence_of_this_code_is_enough(self):
        self.prove("vec", [RIGHT] * 100)
        self.assertEqual(self.findings("vec"), [])

    def test_evidence_of_other_code_names_the_rung(self):
        self.prove("vec", [RIGHT] * 100)
        self.edit("kernels/vec.cu", "THREADS = 128", "THREADS = 256")
        self.assertIn("vec: its code is not the code that was proven", self.findings("vec")[0])

    def test_verdicts_are_worked_out_anew(self):
        for column, value in ((1, 4e-4), (3, 2e-3), (7, 1e-7), (9, 1e-6), (14, 2), (15, 1), (1, float("inf"))):
            wrong = list(RIGHT)
            wrong[column] = value
            self.prove("vec", [RIGHT] * 100 + [wrong])
            self.assertEqual(len(self.findings("vec")), 1, column)

    def test_little_is_no_evidence(self):
        self.prove("vec", [RIGHT] * 5)
        self.assertIn("only 5 trials", self.findings("vec")[0])

    def test_a_report_becomes_evidence_only_whole_and_right(self):
        out = self.root / "out"
        out.mkdir()
        (out / "digests.json").write_text(json.dumps({"compiler": "c", "rungs": {"vec": evidence.digest("vec")}}))
        for rows, whole, status in (([RIGHT] * 100, True, 0), ([RIGHT] * 100, False, 1), ([RIGHT[:14] + [2, 0]] * 100, True, 1)):
            (out / "cases-vec.json").write_text(json.dumps({
                "columns": [], "rows": [["vec"] + row for row in rows], "device": "d", "whole": whole, "unsupported": {"vec": 0}}))
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(evidence.collect(out), status)
        self.assertEqual(self.findings("vec"), [])


if __name__ == "__main__":
    unittest.main()
