#!/bin/sh
# Sees that a Rust toolchain is there, with components: installs them in CI, says how anywhere else.
#
#   tools/toolchain.sh TOOLCHAIN [COMPONENT...]
set -eu

toolchain=$1
shift

present() {
    rustup run "$toolchain" rustc --version >/dev/null 2>&1 || return 1
    installed=$(rustup component list --installed --toolchain "$toolchain")
    for component; do
        # A component that is built for one system is listed with its name behind.
        printf '%s\n' "$installed" | grep -Eqx "$component(-[a-z0-9_]+-.*)?" || return 1
    done
}

if ! command -v rustup >/dev/null 2>&1; then
    echo "toolchain: rustup is missing, which keeps more than one toolchain: install Rust with rustup" >&2
    exit 1
fi
present "$@" && exit 0

options="--profile minimal"
for component; do
    options="$options --component $component"
done
if [ -z "${CI:-}" ]; then
    echo "toolchain: $toolchain is missing${*:+, or its $*}: rustup toolchain install $toolchain $options" >&2
    exit 1
fi
# shellcheck disable=SC2086 # words
rustup toolchain install "$toolchain" $options
