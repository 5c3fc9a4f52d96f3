#!/bin/sh
# packaging/prove-static.sh BINARY COPY [BYTES]: shows that BINARY needs nothing but the kernel, and copies it.
# Fails when it is linked dynamically, does not run without any file beside it, or is larger than it may be.
set -eu

binary=$1
copy=$2
# Small enough to be put into every container image without a thought.
size_max=${3:-$((4 * 1024 * 1024))}

fail() {
    echo "$0: $binary $1" >&2
    exit 1
}

size=$(stat -c %s "$binary")
[ "$size" -le "$size_max" ] || fail "has $size bytes, more than $size_max"

# ldd fails for a static program; for a static one that can be moved it says so instead.
libraries=$(ldd "$binary" 2>&1 || true)
case "$libraries" in
    *'statically linked'* | *'not a dynamic executable'*) ;;
    *) fail "needs shared libraries: $libraries" ;;
esac

# The proof of the pudding: an empty directory as root, where there is no other file. Only root can do it.
if [ "$(id -u)" -eq 0 ] && command -v chroot >/dev/null; then
    empty=$(mktemp -d)
    trap 'rm -rf "$empty"' EXIT
    cp "$binary" "$empty/provost"
    chroot "$empty" /provost help >/dev/null || fail "does not run in an empty root directory"
    echo "runs in an empty root directory"
fi

cp "$binary" "$copy"
echo "ldd: $(echo "$libraries" | tr -d '\t')"
command -v file >/dev/null && file -b "$copy"
echo "$size bytes of at most $size_max"
echo "$copy"
