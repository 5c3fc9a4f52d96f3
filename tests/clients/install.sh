#!/bin/sh
# Installs the libraries of the clients below this directory into the cargo target directory, where `cargo clean` removes
# them: once, and again when the pinned versions have changed. Called by tests/install.sh; needs a network then.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target="${CARGO_TARGET_DIR:-$here/../../target}/clients"
mkdir -p "$target"
log="$target/install.log"

# What is half installed has no mark, and is installed again.
is_done() { cmp -s "$1" "$target/$2.done"; }
mark_done() { cp "$1" "$target/$2.done"; }

give_up() {
    echo "$0: cannot install the $1 libraries that the tests use; the end of $log:" >&2
    tail -n 5 "$log" >&2
    echo "$0: is there a network? They come from $2" >&2
    exit 1
}

if ! is_done "$here/requirements.txt" python; then
    echo "$0: installing Python's gRPC"
    rm -rf "$target/python" "$target/python.done"
    { python3 -m venv "$target/python" &&
        "$target/python/bin/pip" install --disable-pip-version-check --no-input --no-deps --only-binary :all: \
            -r "$here/requirements.txt"; } >"$log" 2>&1 </dev/null || give_up Python pypi.org
    mark_done "$here/requirements.txt" python
fi

if ! is_done "$here/package-lock.json" node; then
    echo "$0: installing Node's gRPC"
    rm -rf "$target/node" "$target/node.done"
    mkdir "$target/node"
    cp "$here/package.json" "$here/package-lock.json" "$target/node"
    (cd "$target/node" && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1 </dev/null ||
        give_up Node registry.npmjs.org
    mark_done "$here/package-lock.json" node
fi
