#!/bin/sh
# Sees that a subcommand of cargo is there: installs it in CI, says how anywhere else.
#
#   tools/subcommand.sh NAME
set -eu

command -v "cargo-$1" >/dev/null 2>&1 && exit 0
if [ -z "${CI:-}" ]; then
    echo "subcommand: cargo-$1 is missing: cargo install --locked cargo-$1" >&2
    exit 1
fi
cargo install --locked "cargo-$1"
