#!/bin/sh
# Checks the arrows between the crates (what a library crate must not reach, however deep), and those between the rooms of
# the binding crate.
# deny.toml says the same to cargo-deny; this needs nothing but cargo.
set -eu

status=0

# forbid CRATE PATTERN: nothing that CRATE is built from has a name that matches all of PATTERN.
forbid() {
    tree=$(cargo tree --quiet -p "$1" -e normal,build --target all --all-features --prefix none --format '{p}')
    reached=$(printf '%s\n' "$tree" | cut -d' ' -f1 | grep -vx "$1" | grep -Ex "$2" | sort -u | tr '\n' ' ' || true)
    [ -n "$reached" ] || return 0
    echo "layers: $1 must not depend on $reached" >&2
    status=1
}

heavy='pyo3.*|tokio|axum|async-nats|rusqlite|libsqlite3-sys'
forbid pytoweb-engine "$heavy|serde.*|pytoweb-.*"
forbid pytoweb-macros "$heavy|pytoweb-.*"
forbid pytoweb-workers "$heavy|pytoweb-python"
forbid pytoweb-process "$heavy|serde.*|pytoweb-(macros|workers|python)"
forbid pytoweb-python 'pytoweb-macros|pytoweb-workers'

# room NAME ALLOWED: the files of a room of crates/python import from nothing but itself and what matches ALLOWED.
room() {
    files=$(find crates/python/src -path "*/src/$1.rs" -o -path "*/src/$1/*.rs")
    # shellcheck disable=SC2086 # one word for each file
    reached=$(grep -oh 'crate::[a-z_]*' $files | sort -u | grep -Evx "crate::($1|$2)" | tr '\n' ' ' || true)
    [ -n "$reached" ] || return 0
    echo "layers: in crates/python, $1 must not import $reached" >&2
    status=1
}

room error 'none'
room arguments 'error'
room interpreter 'error'
room pickle 'error|interpreter'
room host 'error|arguments|interpreter|pickle'
room child 'error|arguments|interpreter|pickle|host'
room current 'host|child'
exit $status
