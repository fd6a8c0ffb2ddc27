#!/bin/bash
# tests/gpu/run.sh FOLDER OUT [PART...]: checks and times the kernels on a machine with a GPU. FOLDER is what `make
# gpu-tests` built (build/gpu); full logs and figures go to OUT, a short table comes last. Exits non-zero when anything
# failed. Uses compute-sanitizer, ncu and PyTorch where the machine has them. Parts, in this order whatever is said:
#
#   cases        every rung against the reference, all cases, a process a rung, side by side      (about 60 s)
#   planted      every planted bug has to be found                                                (30 s)
#   sanitizers   compute-sanitizer's four tools over the small cases of every rung, side by side  (120 s)
#   quick-bench  bench_kernels.py --quick                                                         (60 s)
#   bench        bench_kernels.py, everything                                                     (150 s)
#   variants     bench_kernels.py --variants: every compiled variant, for tuning                  (90 s)
#   ncu          one profile a rung and shape                                                     (60 s)
#
# Default: cases planted sanitizers bench ncu. RUNGS='tc fused' does the first three, variants and ncu for those alone;
# BENCH_PYTHON names a Python that has PyTorch; BENCH_OPTIONS goes to the benchmark, NCU_SHAPES='a;b' to ncu.
#
# Short sessions:   tests/gpu/run.sh build/gpu OUT cases quick-bench
#                   tests/gpu/run.sh build/gpu OUT sanitizers planted
# Afterwards, at home: tests/gpu/evidence.py collect OUT   (cases and planted of one session, or of two into one OUT)
#                      cp OUT/kernels_h100.* docs/bench/
#                      tests/bench/kernel_report.py docs/bench/kernels_h100.json --readme README.md
set -u
[ $# -ge 2 ] || { sed -n '2,23s/^# \{0,1\}//p' "$0"; exit 2; }
folder=$1 out=$2
shift 2
parts=" ${*:-cases planted sanitizers bench ncu} "
tests=$folder/test_kernels
here=$(cd "$(dirname "$0")" && pwd)
python=${BENCH_PYTHON:-python3}
mkdir -p "$out"
summary=$out/summary.txt
: >"$summary"
rungs=${RUNGS:-$("$tests" --list)}
cores=$(nproc)

wanted() { case $parts in *" $1 "*) true ;; *) false ;; esac; }

# note NAME RESULT SECONDS TEXT
note() {
    printf '%-30s %-6s %4ss  %s\n' "$1" "$2" "$3" "$4" >>"$summary"
}

# check NAME LIMIT COMMAND...: has to succeed
check() {
    local name=$1 limit=$2 start=$SECONDS result=ok
    shift 2
    timeout "$limit" "$@" >"$out/$name.log" 2>&1 || result=FAIL
    note "$name" $result $((SECONDS - start)) "$(tail -1 "$out/$name.log" | cut -c1-130)"
    [ $result = ok ] || { echo "--- $name"; grep -E '^FAIL|^WRONG|ERROR|Error' "$out/$name.log" | head -8; tail -4 "$out/$name.log"; }
}

# Cases that fail (exit 1), not a crash or a time limit.
find_bug() {
    local name start=$SECONDS code result=FAIL outcome=missed
    name=$(basename "$1")
    timeout 100 "$1" --small >"$out/planted-$name.log" 2>&1
    code=$?
    [ $code -ne 1 ] || { result=found outcome=found; }
    note "planted $name" $result $((SECONDS - start)) "$(tail -1 "$out/planted-$name.log")"
    echo "$name $outcome" >>"$out/planted.txt"
}

is_of_rung() { # PLANTED: is its rung among those asked for?
    local rung
    rung=$(awk -v name="$(basename "$1")" '$1 == name { print $2 }' "$here/planted.txt")
    case " $(echo $rungs) " in *" $rung "*) true ;; *) false ;; esac
}

if wanted cases; then
    cp "$folder/digests.json" "$out/"
    count=$(echo $rungs | wc -w)
    threads=$((cores / count > 1 ? cores / count : 1))
    for rung in $rungs; do
        check "cases-$rung" 200 env OMP_NUM_THREADS=$threads "$tests" --kernel "$rung" --json "$out/cases-$rung.json" &
    done
    wait
fi

if wanted planted; then
    rm -f "$out/planted.txt"
    for bug in "$folder"/planted/*; do
        is_of_rung "$bug" && OMP_NUM_THREADS=2 find_bug "$bug" &
    done
    wait
fi

if wanted sanitizers; then
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck synccheck; do
            for rung in $rungs; do
                OMP_NUM_THREADS=1 check "$tool-$rung" 200 compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 5 \
                    "$tests" --small --kernel "$rung" &
            done
        done
        wait
    else
        note sanitizers absent 0 "no compute-sanitizer here"
    fi
fi

bench() { # NAME LIMIT OPTIONS...
    local name=$1 limit=$2
    shift 2
    if "$python" -c 'import torch' 2>/dev/null; then
        # shellcheck disable=SC2086 # several options in one variable
        check "$name" "$limit" "$python" "$here/../bench/bench_kernels.py" --library "$folder/flashcore-cuda.so" \
            --digests "$folder/digests.json" --out "$out" "$@" ${BENCH_OPTIONS:-}
    else
        note "$name" absent 0 "no PyTorch here"
    fi
}

wanted quick-bench && bench quick-bench 110 --quick --seconds 80
wanted bench && bench bench 260 --seconds 220
if wanted variants; then
    for rung in $rungs; do
        case $rung in baseline | vec | warp) ;; *) bench "variants-$rung" 90 --variants --kernel "$rung" --seconds 60 ;; esac
    done
fi

if wanted ncu && command -v ncu >/dev/null; then
    IFS=';' read -ra shapes <<<"${NCU_SHAPES:-B1 H8 S512 D64 f16;16k tokens H16 D128 S2k}"
    for rung in $rungs; do
        case $rung in baseline | vec | warp) continue ;; esac
        for shape in "${shapes[@]}"; do
            check "ncu-$rung-${shape// /_}" 60 ncu --clock-control none --kill yes -k "regex:$rung" -s 1 -c 1 \
                --section SpeedOfLight --section MemoryWorkloadAnalysis --section Occupancy --section LaunchStats \
                --section WarpStateStats --section ComputeWorkloadAnalysis \
                "$python" "$here/../bench/bench_kernels.py" --library "$folder/flashcore-cuda.so" --profile --kernel "$rung" \
                --shape "$shape"
        done
    done
fi

echo "=== checks"
cat "$summary"
for log in quick-bench bench; do
    wanted $log && [ -f "$out/$log.log" ] && { echo "=== $log"; cat "$out/$log.log"; }
done
for log in "$out"/variants-*.log; do
    wanted variants && [ -f "$log" ] && { echo "=== $log"; grep -E '<-|v[0-9]' "$log" | head -40; }
done
for log in "$out"/ncu-*.log; do
    wanted ncu && [ -f "$log" ] && { echo "=== $log"; grep -E 'Duration|SM Frequency|Throughput|L1/TEX Hit|Warp Cycles Per Issued|Achieved Occ|Registers Per|Executed Ipc A' "$log"; }
done
! grep -E '^.{30} FAIL' "$summary"
