#!/bin/bash
# tests/gpu/run.sh FOLDER OUT: everything there is to check and time on a machine with a GPU, in one go. FOLDER holds what
# `make gpu-tests` built; full logs go to OUT, a short table comes last. Exits non-zero when any check failed. Uses
# compute-sanitizer, ncu and PyTorch where the machine has them.
set -u
folder=$1 out=$2
tests=$folder/test_kernels
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
summary=$out/summary.txt
: >"$summary"

# note NAME RESULT SECONDS TEXT
note() {
    printf '%-30s %-6s %4ss  %s\n' "$1" "$2" "$3" "$4" >>"$summary"
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
find_bug() {
    local name start=$SECONDS code result=FAIL
    name=$(basename "$1")
    timeout 150 "$1" --small >"$out/planted-$name.log" 2>&1
    code=$?
    [ $code -ne 1 ] || result=found
    note "planted $name" $result $((SECONDS - start)) "$(tail -1 "$out/planted-$name.log")"
}

# None of these is timed, so they share the machine.
for bug in "$folder"/planted/*; do
    find_bug "$bug" &
done
for tool in memcheck racecheck initcheck synccheck; do
    if command -v compute-sanitizer >/dev/null; then
        check $tool 330 compute-sanitizer --tool $tool --error-exitcode 9 --print-limit 5 "$tests" --small &
    else
        note $tool absent 0 "no compute-sanitizer here"
    fi
done
wait

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
! grep -E '^.{30} FAIL' "$summary"
