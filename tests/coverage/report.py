#!/usr/bin/env python3
"""Reads what gcov counted and prints it as a table: lines and branches of each folder, and of each file of the folders
that are held to a least share, with the lines nothing reached.

A line counts as reached when any program reached it; a branch likewise, in every place it was compiled into. Exits 1
when a folder's share of lines is below what --least asks of it.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys


class File:
    """Counts of one source file, summed over the objects it is part of."""

    def __init__(self):
        self.lines = collections.Counter()
        self.branches = collections.Counter()

    def add(self, line):
        number = line["line_number"]
        self.lines[number] += line["count"]
        for i, branch in enumerate(line["branches"]):
            self.branches[number, i] += branch["count"]

    def missed(self):
        """Lines nothing reached, as "12-14 20"."""
        missed, runs = sorted(n for n, count in self.lines.items() if count == 0), []
        code = sorted(self.lines)
        following = dict(zip(code, code[1:]))
        for n in missed:
            if runs and following.get(runs[-1][1]) == n:
                runs[-1][1] = n
            else:
                runs.append([n, n])
        return " ".join("%d" % a if a == b else "%d-%d" % (a, b) for a, b in runs)


def share(counters):
    """Reached, all."""
    values = [count for counter in counters for count in counter.values()]
    return sum(count > 0 for count in values), len(values)


def percent(reached, total):
    return 100.0 * reached / total if total else 100.0


def read(objects, folders):
    """Every source file of the folders."""
    files = collections.defaultdict(File)
    notes = sorted(str(n.resolve()) for n in objects.rglob("*.gcno"))
    if not notes:
        raise SystemExit("report.py: %s holds nothing built for coverage; `make coverage` builds and runs it" % objects)
    for note in notes:
        done = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities", note], capture_output=True,
                              text=True, check=True)
        for found in (f for text in done.stdout.splitlines() for f in json.loads(text)["files"]):
            if found["file"].split("/")[0] in folders:
                for line in found["lines"]:
                    files[found["file"]].add(line)
    return files


def row(name, files, note=""):
    lines, branches = share([f.lines for f in files]), share([f.branches for f in files])
    print("%-28s %6d %6.1f %%  %6d %6.1f %%%s" % (
        name, lines[1], percent(*lines), branches[1], percent(*branches), "  " + note if note else ""))
    return percent(*lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=pathlib.Path, help="folder of the objects")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--least", action="append", default=[], metavar="FOLDER=PERCENT")
    parser.add_argument("--files", action="store_true", help="show every folder's files, not only of those with a --least")
    args = parser.parse_args()
    least = {folder: float(value) for folder, value in (word.split("=") for word in args.least)}
    files = read(args.objects, args.folders)
    failed = []
    print("%-28s %15s  %15s  %s" % ("", "lines   reached", "branches", "lines that nothing reached"))
    for folder in args.folders:
        inside = {name: f for name, f in sorted(files.items()) if name.startswith(folder + "/")}
        if folder in least or args.files:
            for name, f in inside.items():
                row(name, [f], f.missed())
        reached = row(folder + "/", inside.values())
        if reached < least.get(folder, 0):
            failed.append("%s: %.1f %% of the lines are reached, at least %g %% have to be" % (
                folder, reached, least[folder]))
    for line in failed:
        print("FAILED: " + line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
