#!/bin/sh
# Runs the Python tests: several files at a time, then those marked `alone` without others beside them. Those that need a
# browser are not among them: `make test-browser` runs these.
#
#   tools/test_python.sh PYTHON JOBS [PYTEST_ARGUMENT...]
#
# A file is the unit that is handed out: what its tests share is made once.
set -u

python=$1
jobs=$2
shift 2

# pytest's exit code where no test was selected: an error only if that is so of both runs.
none=5

"$python" -m pytest -n "$jobs" --dist loadfile -m "not extra and not alone and not browser" "$@"
together=$?
[ "$together" -eq 0 ] || [ "$together" -eq "$none" ] || exit "$together"

# Paths among the arguments would select more files than these: the names of tests decide.
deselect=""
for file in tests/test_*.py; do
    grep -q "mark\.alone" "$file" || deselect="$deselect --ignore=$file"
done
# shellcheck disable=SC2086 # one word for each option
"$python" -m pytest -m "alone and not extra" $deselect "$@"
alone=$?
[ "$alone" -eq "$none" ] && exit "$together"
exit "$alone"
