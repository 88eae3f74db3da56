#!/bin/sh
# Repeats the concurrency tests on all cores, then pinned to one, and counts the rounds that failed.
#
#   tools/stress.sh PYTHON REPEAT [PYTEST_ARGUMENT...]
#
# Each round is a new process. The engine's tests run optimised: that is the code whose races users meet.
set -eu

python=$1
repeat=$2
shift 2

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/stress"
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failures=0

# attempt WHAT COMMAND...: shows the output of a command only when it fails.
attempt() {
    what=$1
    shift
    "$@" >"$log" 2>&1 && return
    failures=$((failures + 1))
    cat "$log"
    echo "stress: FAILED: $what" >&2
}

# rounds PLACE PIN [PYTEST_ARGUMENT...]: PIN is what each command is started through, or nothing.
rounds() {
    place=$1
    pin=$2
    shift 2
    for i in $(seq "$repeat"); do
        attempt "engine, round $i $place" $pin cargo test --quiet --release -p pytoweb-engine --lib --tests
        attempt "Python, round $i $place" $pin "$python" -m pytest --quiet -p no:cacheprovider "$@"
        echo "stress: round $i of $repeat $place, $failures failed so far"
    done
}

cargo test --quiet --release -p pytoweb-engine --lib --tests --no-run
rounds "on all cores" "" "$@"
if command -v taskset >/dev/null 2>&1; then
    core=$("$python" -c 'import os; print(min(os.sched_getaffinity(0)))')
    rounds "on core $core" "taskset -c $core" "$@"
else
    echo "stress: taskset is missing: nothing was run on a single core" >&2
    failures=$((failures + 1))
fi
echo "stress: $failures runs failed"
[ "$failures" -eq 0 ]
