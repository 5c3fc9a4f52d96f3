#!/bin/sh
# Puts what the tests in a virtual machine need into the cargo target directory, where `cargo clean` removes it: the kernel of
# Debian's package, which is unpacked and not installed, and a busybox. Once. Called by tests/install.sh; needs a network then.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target="${CARGO_TARGET_DIR:-$here/../../target}/vm"
[ ! -s "$target/busybox" ] || [ ! -s "$target/vmlinuz" ] || exit 0

give_up() {
    echo "$0: $1" >&2
    exit 1
}

echo "$0: fetching a kernel for the tests in a virtual machine"
rm -rf "$target"
mkdir -p "$target/unpacked"
cd "$target"
# That package has no file but the name of the newest kernel.
newest='s/^ *Depends: \(linux-image-[0-9].*\)$/\1/p'
kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n "$newest" | head -n 1)
if [ -z "$kernel" ]; then
    apt-get update -qq || give_up "'apt-get update' failed: is there a network?"
    kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n "$newest" | head -n 1)
fi
[ -n "$kernel" ] || give_up "apt-get has no package linux-image-cloud-amd64: is this Debian?"
fetch() { apt-get -qq -o APT::Sandbox::User=root download "$kernel" busybox-static >/dev/null 2>&1; }
# The list may be older than what is there.
fetch || { apt-get update -qq && fetch; } || give_up "cannot download $kernel and busybox-static: is there a network?"
for package in *.deb; do dpkg-deb --extract "$package" unpacked; done
mv unpacked/boot/vmlinuz-* vmlinuz
mv unpacked/bin/busybox busybox 2>/dev/null || mv unpacked/usr/bin/busybox busybox
rm -rf unpacked ./*.deb
