#!/usr/bin/env python3
"""Keeps what was proven on a GPU tied to the code it was proven on.

evidence.py digest [--nvcc NVCC]     prints, as JSON, a digest of every CUDA rung and the compiler's version
evidence.py collect OUT              turns what tests/gpu/run.sh left in OUT into tests/gpu/evidence/RUNG.json
evidence.py check [--library SO]     what `make lint` asks: are the rungs still those that were proven, and were they
                                     right? A line on stdout for each thing that is wrong, notes on stderr

A digest is the SHA-256 of what can reach the rung's machine code: the tokens of its .cu, of the .def tables it expands,
of the functions, types, constants and macros of the project's headers that it uses, directly or through each other,
and the compiler's flags. Comments, layout, prototypes and what other rungs use do not count; nor does CUDA itself, so a
machine without it computes the same.

Needs Python alone.
"""
import argparse
import datetime
import hashlib
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
EVIDENCE = ROOT / "tests/gpu/evidence"
BENCHMARK = ROOT / "docs/bench/kernels_h100.json"
RENEW = ("renew it on a GPU: make gpu-tests; tests/gpu/run.sh build/gpu OUT cases planted; "
         "then tests/gpu/evidence.py collect OUT")
RENEW_BENCHMARK = "renew them on a GPU: make bench-kernels"
LEAST_ROWS = 100  # a rung that turns nearly everything down has proven nothing

# --- what the compiler sees ---------------------------------------------------------------------------------------

COMMENT = re.compile(r'("(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\')|/\*.*?\*/|//[^\n]*', re.S)
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[A-Za-z_]\w*|\d[\w.\']*|\S')
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
NOISE = re.compile(r"__attribute__\s*\(\(.*?\)\)|__launch_bounds__\s*\([^()]*\)|__align__\s*\(\w*\)|alignas\s*\([^()]*\)")


def without_comments(path):
    text = COMMENT.sub(lambda m: m.group(1) or " ", path.read_text())
    return text.replace("\\\n", " ")


def tokens(text):
    return " ".join(TOKEN.findall(text))


def includes(text):
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', text, re.M)


def chunks(text):
    """Cuts a header into preprocessor lines and top-level declarations."""
    text = re.sub(r'extern "C" \{', " ", text)
    chunk, depth = "", 0
    for line in text.split("\n"):
        if line.lstrip().startswith("#"):
            if depth == 0:
                yield line.strip()
            else:
                chunk += line + "\n"
            continue
        for character in line + "\n":
            chunk += character
            depth += (character in "{(") - (character in "})")
            if depth < 0:  # what closes extern "C"
                chunk, depth = "", 0
            ends_body = character == "}" and is_function(chunk)
            if depth == 0 and (character == ";" or ends_body):
                yield chunk.strip()
                chunk = ""
    if chunk.strip():
        yield chunk.strip()


def is_function(chunk):
    head = NOISE.sub(" ", chunk).split("{")[0]
    is_type = re.match(r"\s*(template\s*<.*?>\s*)?(typedef|struct|union|enum|class|namespace|using|static_assert)\b", head)
    return "(" in head and "=" not in re.sub(r"<[^<>]*>", "", head.split("(")[0]) and not is_type


def names_of(chunk):
    """What a declaration of a header introduces; None: keep it whatever happens."""
    head = NOISE.sub(" ", chunk).split("{")[0]
    if chunk.startswith("#"):
        define = re.match(r"#\s*define\s+(\w+)", chunk)
        return {define.group(1)} if define else None
    if is_function(chunk):
        found = re.search(r"(\w+)\s*\(", re.sub(r"<[^<>]*>", "", head))
        return {found.group(1)} if found else None
    if re.match(r"(template\s*<.*?>\s*)?(typedef|struct|union|enum|class)\b", head):
        found = set(IDENTIFIER.findall(head)) | set(IDENTIFIER.findall(chunk.rsplit("}", 1)[-1]))
        if re.search(r"\benum\b", head):
            found |= set(IDENTIFIER.findall(chunk))
        return found - {"typedef", "struct", "union", "enum", "class", "template", "typename", "int", "void", "const"}
    constant = re.match(r"[\w\s<>:*&]*?(\w+)\s*(\[[^=]*\])?\s*=", chunk)
    return {constant.group(1)} if constant else None


def is_silent(chunk):
    """Lines and declarations that no machine code comes of."""
    if chunk.startswith("#"):
        return re.match(r"#\s*(include|endif|pragma once|undef|ifdef\s+__cplusplus|(ifndef|define)\s+\w+_(H|CUH)$)", chunk)
    return is_function(chunk) and chunk.endswith(";")


def closure(path):
    """The project's files a .cu includes, itself last; and the .def tables that device code expands."""
    headers, tables = [], []

    def visit(name, from_header):
        file = ROOT / name
        if name.endswith(".def"):
            if not from_header and name not in tables:
                tables.append(name)
            return
        if name in headers or not file.exists():
            return
        for other in includes(without_comments(file)):
            visit(other, name.endswith(".h"))
        headers.append(name)

    visit(path, False)
    return headers, tables


def what_counts(path):
    headers, tables = closure(path)
    text = [name + "\n" + tokens(without_comments(ROOT / name)) for name in tables + [path]]
    used = set(IDENTIFIER.findall("\n".join(text)))
    waiting = []
    for name in headers[:-1]:
        waiting += [(name, c, names_of(c)) for c in chunks(without_comments(ROOT / name)) if not is_silent(c)]
    kept = {}
    grows = True
    while grows:
        grows = False
        for i, (name, chunk, names) in enumerate(waiting):
            if i not in kept and (names is None or names & used):
                kept[i] = name + ": " + tokens(chunk)
                used |= set(IDENTIFIER.findall(chunk))
                grows = True
    return text + [kept[i] for i in sorted(kept)]


def compiler_flags():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    flags = [re.search(r"^%s :=(.*)$" % name, makefile, re.M).group(1).split() for name in ("CUDA_ARCH", "NVCCFLAGS")]
    return [f for f in flags[0] + flags[1] if f.startswith(("arch=", "-O", "-std", "--use", "-use", "-fmad", "-maxr"))]


def digest(rung):
    lines = compiler_flags() + what_counts("kernels/%s.cu" % rung)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def cuda_rungs():
    rows = re.findall(r'FC_KERNEL_ROW\(\w+,\s*"(\w+)",\s*FC_ENGINE_CUDA', (ROOT / "kernels/kernel.def").read_text())
    return [rung for rung in rows if (ROOT / "kernels" / (rung + ".cu")).exists()]


# --- evidence -----------------------------------------------------------------------------------------------------

def is_within(error, plain, largest, largest_plain, norm, unit):
    relative_unit = unit / norm if norm > 0 else 0
    relative = 2 * max(plain, relative_unit / 2) + relative_unit
    slack = 1 + 1e-3  # figures are kept to four digits
    return error <= relative * slack and largest <= (2 * max(largest_plain, unit / 2) + unit) * slack


def faults(row):
    """Why a row of raw figures is no proof."""
    case, figures, (runs, equal, stray) = row[0], row[1:13], row[13:]
    if not all(isinstance(f, (int, float)) and f == f for f in row[1:]):
        return "%s: not figures" % case
    if not is_within(*figures[:6]):
        return "%s: out errs by %g, %g where plain errs by %g, %g" % (case, *(figures[i] for i in (0, 2, 1, 3)))
    if not is_within(*figures[6:]):
        return "%s: lse errs by %g, %g where plain errs by %g, %g" % (case, *(figures[i] for i in (6, 8, 7, 9)))
    if runs < 3 or equal != runs:
        return "%s: %d of %d runs gave the same bits" % (case, equal, runs)
    return "%s: %d bytes written where nothing is its own" % (case, stray) if stray else None


def write_evidence(path, evidence, rows):
    body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    path.write_text(json.dumps(evidence, indent=1)[:-2] + ',\n "rows": [\n%s\n]}\n' % body)


def collect(out):
    digests = json.loads((out / "digests.json").read_text())
    planted = {}
    if (out / "planted.txt").exists():
        planted = dict(line.split() for line in (out / "planted.txt").read_text().splitlines())
    EVIDENCE.mkdir(exist_ok=True)
    status = 0
    for file in sorted(out.glob("cases-*.json")):
        try:
            report = json.loads(file.read_text())
        except ValueError:
            print("%s: cut off; its rung is not proven" % file.name)
            status = 1
            continue
        for rung in report["unsupported"]:
            rows = [row[1:] for row in report["rows"] if row[0] == rung]
            wrong = [f for f in map(faults, rows) if f]
            if wrong or not report["whole"] or len(rows) < LEAST_ROWS:
                print("%s: no evidence: %s" % (rung, wrong[0] if wrong else "only a part of the table was run"))
                status = 1
                continue
            evidence = {"rung": rung, "digest": digests["rungs"][rung], "compiler": digests["compiler"],
                        "device": report["device"], "made": datetime.date.today().isoformat(),
                        "unsupported": report["unsupported"][rung],
                        "planted": {k: v for k, v in planted.items() if planted_rungs().get(k) == rung},
                        "columns": report["columns"]}
            write_evidence(EVIDENCE / (rung + ".json"), evidence, rows)
            print("%s: %d trials are evidence now" % (rung, len(rows)))
    return status


def planted_rungs():
    lines = (ROOT / "tests/gpu/planted.txt").read_text().splitlines()
    return {line.split()[0]: line.split()[1] for line in lines if line and not line.startswith("#")}


def note(text):
    print("note: " + text, file=sys.stderr)


def check_rung(rung):
    file = EVIDENCE / (rung + ".json")
    if rung not in planted_rungs().values():
        yield "%s: no bug of tests/gpu/planted.txt is planted in it" % rung
    if not file.exists():
        note("%s has no evidence from a GPU yet; %s" % (rung, RENEW))
        return
    evidence = json.loads(file.read_text())
    if evidence["digest"] != digest(rung):
        yield "%s: its code is not the code that was proven on %s; %s" % (rung, evidence["made"], RENEW)
    if len(evidence["rows"]) < LEAST_ROWS:
        yield "%s: only %d trials" % (rung, len(evidence["rows"]))
    for bug, outcome in evidence["planted"].items():
        if outcome != "found":
            yield "%s: the planted bug %s was not found" % (rung, bug)
    wrong = [f for f in map(faults, evidence["rows"]) if f]
    if wrong:
        yield "%s: %d trials failed, the first: %s" % (rung, len(wrong), wrong[0])


def check_benchmark(rungs):
    if not BENCHMARK.exists():
        note("no benchmark of the kernels yet; " + RENEW_BENCHMARK)
        return
    report = subprocess.run([sys.executable, str(ROOT / "tests/bench/kernel_report.py"), str(BENCHMARK), "--check",
                             str(ROOT / "README.md")], capture_output=True, text=True)
    yield from (report.stdout + report.stderr).splitlines()
    measured = json.loads(BENCHMARK.read_text())["rungs"]
    for rung in rungs:
        if rung not in measured:
            note("%s is not in docs/bench/kernels_h100.json yet; %s" % (rung, RENEW_BENCHMARK))
        elif measured[rung] != digest(rung):
            yield "%s: its figures in docs/bench/kernels_h100.json are of other code; %s" % (rung, RENEW_BENCHMARK)


def check_auto(rungs, library):
    """`auto` may only choose what has been proven."""
    proven = {rung for rung in rungs if (EVIDENCE / (rung + ".json")).exists()}
    if not proven:
        note("nothing is proven yet, so what auto chooses is not looked at")
        return
    sys.path.insert(0, str(ROOT / "tests/bench"))
    import flashcore_abi
    for rung in flashcore_abi.Library(library).chosen_by_auto():
        if rung in rungs and rung not in proven:
            yield "%s: auto chooses it, and it has no evidence; %s" % (rung, RENEW)


def check(library):
    rungs, status = cuda_rungs(), 0
    findings = [line for rung in rungs for line in check_rung(rung)]
    findings += check_benchmark(rungs)
    if library and pathlib.Path(library).exists():
        findings += check_auto(rungs, library)
    for line in findings:
        print(line)
        status = 1
    return status


def compiler_version(nvcc):
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return "nvcc " + re.search(r"V([\d.]+)", text).group(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["digest", "collect", "check", "show"])
    parser.add_argument("where", nargs="?", help="collect: run.sh's folder; show: a rung, whose digested text is printed")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--library", default="build/tests/flashcore-cuda-fake.so", help="the engine that is asked about auto")
    args = parser.parse_args()
    if args.what == "digest":
        print(json.dumps({"compiler": compiler_version(args.nvcc), "rungs": {r: digest(r) for r in cuda_rungs()}}))
        return 0
    if args.what == "show":
        print("\n".join(compiler_flags() + what_counts("kernels/%s.cu" % args.where)))
        return 0
    return collect(pathlib.Path(args.where)) if args.what == "collect" else check(args.library)


if __name__ == "__main__":
    sys.exit(main())
