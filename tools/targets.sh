#!/bin/sh
# Checks that the crates without Python compile for other systems, where their targets can be installed.
set -eu

for target in x86_64-apple-darwin x86_64-pc-windows-gnu; do
    if ! rustup target list --installed 2>/dev/null | grep -qx "$target" &&
        ! rustup target add "$target" >/dev/null 2>&1; then
        echo "targets: $target cannot be installed here and is not checked"
        continue
    fi
    RUSTFLAGS="-D warnings" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/targets" \
        cargo check --quiet --target "$target" -p pytoweb-engine -p pytoweb-process -p pytoweb-workers "$@"
    echo "targets: $target compiles"
done
