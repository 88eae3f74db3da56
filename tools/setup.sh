#!/bin/sh
# Makes the virtual environment DIR with pip and maturin in it, or leaves it alone when it still fits.
#
#   tools/setup.sh DIR [PYTHON]
#
# Without PYTHON an existing environment is kept, and a new one is made with python3.
# DIR/.python is written last: it marks a complete environment, and its age says when it was made.
set -eu

dir=$1
chosen=${2:-}
python=${chosen:-python3}
mark=$dir/.python
here=$(pwd -P)/$dir

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

identity() {
    "$1" -c 'import sys; print(sys.version.split()[0], sys.base_prefix)' 2>/dev/null
}

# An environment holds absolute paths, so that a copied or moved checkout needs a new one.
fits() {
    [ -f "$mark" ] && [ "$(cat "$mark")" = "$here" ] || return 1
    made=$(identity "$dir/bin/python") || return 1
    [ -z "$chosen" ] || [ "$(identity "$chosen")" = "$made" ]
}

check_rust() {
    command -v cargo >/dev/null 2>&1 || fail \
        "cargo is missing: install Rust with rustup" \
        "(right after installing it, open a new shell so that PATH has it)"
    need=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    have=$(rustc --version | cut -d' ' -f2)
    oldest=$(printf '%s\n%s\n' "$need" "$have" | sort -V | head -n 1)
    [ "$oldest" = "$need" ] || fail "Rust $have is too old, $need or newer is needed: rustup update"
}

check_python() {
    command -v "$python" >/dev/null 2>&1 ||
        fail "$python is missing: install Python 3.9 or newer, or name one: make PYTHON=/path/to/python3"
    "$python" -c '' >/dev/null 2>&1 || fail "$python does not run: name another one: make PYTHON=/path/to/python3"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail \
        "$python is $("$python" -c 'import sys; print(sys.version.split()[0])'), 3.9 or newer is needed" \
        "name another one: make PYTHON=/path/to/python3"
}

# pip comes from the interpreter's own pip (22.3 or newer can install into another environment), so
# that a missing ensurepip does no harm; else from ensurepip, so that an old or missing pip does none.
make_environment() {
    if "$python" -m venv --clear --without-pip "$dir" &&
        "$python" -m pip --python "$dir/bin/python" install --quiet pip 2>/dev/null; then
        return
    fi
    "$python" -m venv --clear "$dir" >/dev/null 2>&1 || fail \
        "$python can not make an environment with pip in it: see whether the package index is reachable," \
        "and install pip 22.3 or newer for $python, or its ensurepip (Debian and Ubuntu: python3-pip or python3-venv)"
}

if fits; then
    exit 0
fi
check_rust
check_python
if [ -e "$dir" ] && [ ! -f "$dir/pyvenv.cfg" ]; then
    fail "$dir exists and is not a virtual environment: move it away"
fi
echo "setup: making $dir with $python" >&2
make_environment
maturin=$(sed -n 's/^requires = \["\(maturin.*\)"\]$/\1/p' pyproject.toml)
"$dir/bin/python" -m pip install --quiet --upgrade pip "$maturin"
printf '%s\n' "$here" >"$mark"
