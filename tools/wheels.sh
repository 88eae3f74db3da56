#!/bin/sh
# Builds into dist/ the wheels of every supported CPython for Linux, glibc and musl, and the source distribution.
#
#   tools/wheels.sh VENV PROFILE [MATURIN_ARGUMENT...]
#
# zig links, so that a wheel runs on older systems than the one that built it, and no interpreter but that of VENV is
# needed. What is built here is for the processor of this machine.
set -eu

venv=$1
profile=$2
shift 2

cpu=$(uname -m)
interpreters="-i 3.9 -i 3.10 -i 3.11 -i 3.12 -i 3.13 -i 3.14"
# zig is a module of the environment.
PATH=$PWD/$venv/bin:$PATH
export PATH
rm -rf dist

# build LIBC PLATFORM [MATURIN_ARGUMENT...]
build() {
    target=$cpu-unknown-linux-$1
    platform=$2
    shift 2
    rustup target add "$target"
    # shellcheck disable=SC2086 # words
    maturin build --profile "$profile" --zig --target "$target" --compatibility "$platform" $interpreters \
        --target-dir "${CARGO_TARGET_DIR:-target}/wheels" --out dist "$@"
}

build gnu manylinux_2_17 "$@"
build musl musllinux_1_2 "$@"
maturin sdist --out dist
ls -1 dist
