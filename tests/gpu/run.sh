#!/bin/bash
# tests/gpu/run.sh FOLDER OUT: everything there is to check and time on a machine with a GPU, in one go. FOLDER holds what
# `make gpu-tests` built; full logs go to OUT, a short table comes last. Exits non-zero when any check failed. Uses
# compute-sanitizer, ncu and PyTorch where the machine has them.
set -u
folder=$1 out=$2
tests=$folder/test_kernels
here=$(cd "$(dirname "$0")" && pwd)
failures=0
mkdir -p "$out"
summary=$out/summary.txt
: >"$summary"

# note NAME RESULT SECONDS TEXT
note() {
    printf '%-30s %-6s %4ss  %s\n' "$1" "$2" "$3" "$4" >>"$summary"
    [ "$2" != FAIL ] || failures=$((failures + 1))
}

# check NAME LIMIT COMMAND...: has to succeed
check() {
    local name=$1 limit=$2 start=$SECONDS result=ok
    shift 2
    timeout "$limit" "$@" >"$out/$name.log" 2>&1 || result=FAIL
    note "$name" $result $((SECONDS - start)) "$(tail -1 "$out/$name.log" | cut -c1-110)"
    [ $result = ok ] || { echo "--- $name"; tail -15 "$out/$name.log"; }
}

check cases 240 "$tests"

# Every planted bug has to be found: cases that fail (exit 1), not a crash or a time limit.
for bug in "$folder"/planted/*; do
    start=$SECONDS
    timeout 120 "$bug" --small >"$out/planted-$(basename "$bug").log" 2>&1
    code=$?
    [ $code -eq 1 ] && result=found || result=FAIL
    note "planted $(basename "$bug")" $result $((SECONDS - start)) "$(tail -1 "$out/planted-$(basename "$bug").log")"
done

if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck initcheck synccheck; do
        check $tool 150 compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 5 "$tests" --small
    done
else
    note sanitizers absent 0 "no compute-sanitizer here"
fi

check times 200 "$tests" --time --json "$out/times.json"
if python3 -c 'import torch' 2>/dev/null; then
    check torch 120 python3 "$here/time_torch.py" --json "$out/torch.json"
fi
if command -v ncu >/dev/null; then
    for kernel in baseline vec; do
        check ncu-$kernel 60 ncu --clock-control none --kill yes -k "regex:${kernel}_kernel" -s 4 -c 1 \
            --section SpeedOfLight --section MemoryWorkloadAnalysis --section Occupancy --section LaunchStats \
            --section WarpStateStats --section ComputeWorkloadAnalysis "$tests" --time
    done
fi

echo "=== checks"
cat "$summary"
echo "=== times"
cat "$out/times.log"
[ ! -f "$out/torch.log" ] || cat "$out/torch.log"
for kernel in baseline vec; do
    [ ! -f "$out/ncu-$kernel.log" ] || { echo "=== ncu $kernel"; grep -E 'Duration|SM Frequency|Throughput|L1/TEX Hit|Warp Cycles Per Issued|Achieved Occ|Registers Per|Executed Ipc A' "$out/ncu-$kernel.log"; }
done
echo "$failures checks failed"
[ "$failures" -eq 0 ]
