#!/bin/sh
# Installs what is missing of the programs that the build, the tests and the benchmarks run:
#   tests/install.sh build     without these the gRPC core is not compiled
#   tests/install.sh tests     without these the tests fail
#   tests/install.sh bench     without these the benchmarks leave a column out
# Does nothing where everything is there. Needs apt-get and root for the rest, and says what to do without them.
set -eu

case "${1-}" in
    build) programs='cmake:cmake g++:g++ make:make' ;;
    tests) programs='nginx:nginx redis-server:redis-server strace:strace jq:jq python3:python3 sqlite3:sqlite3
        openssl:openssl node:nodejs npm:npm supervisord:supervisor systemd-notify:systemd zsh:zsh fish:fish' ;;
    bench) programs='s6-svscan:s6 runsvdir:runit supervisord:supervisor' ;;
    *) echo "usage: $0 build|tests|bench" >&2; exit 2 ;;
esac

# Debian keeps servers where the PATH of a user does not lead.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# Only there is the kernel which that test boots; elsewhere it says that it does not run.
has_machines() { [ "$(uname -m)" = x86_64 ] && command -v apt-get >/dev/null 2>&1; }

missing_packages() {
    for pair in $programs; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || printf '%s ' "${pair##*:}"
    done
    [ "$kind" != tests ] || ! has_machines || command -v qemu-system-x86_64 >/dev/null 2>&1 || printf 'qemu-system-x86 '
    # Debian's Python makes no virtual environments without this.
    [ "$kind" != tests ] || python3 -c 'import ensurepip' 2>/dev/null || printf 'python3-venv '
    [ "$kind" != tests ] || python3 -c 'import jsonschema' 2>/dev/null || printf 'python3-jsonschema '
}

# The libraries of the test clients come from elsewhere, when their programs are there; and a virtual machine needs a kernel.
finish() {
    if [ "$kind" = tests ]; then "$(dirname "$0")/clients/install.sh"; fi
    if [ "$kind" = tests ] && has_machines; then "$(dirname "$0")/vm/install.sh"; fi
    exit
}

# What cannot be installed fails the tests, and only shortens the benchmarks.
give_up() {
    echo "$0: missing packages: $packages" >&2
    echo "$0: $1" >&2
    [ "$kind" = bench ] && exit 0
    exit 1
}

kind=$1
packages=$(missing_packages)
[ -n "$packages" ] || finish
command -v apt-get >/dev/null 2>&1 || give_up "there is no apt-get here: install them by hand"
[ "$(id -u)" -eq 0 ] || give_up "installing needs root: run 'sudo apt-get install $packages' once"

# A package that starts its server when it is installed would take the port that somebody else uses.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
echo "$0: installing $packages"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 || {
    apt-get update -qq || give_up "'apt-get update' failed: is there a network?"
    apt-get install -y -qq --no-install-recommends $packages >/dev/null ||
        give_up "apt-get could not install them, see above"
}
packages=$(missing_packages)
[ -z "$packages" ] || give_up "they were installed, and still are not found in $PATH"
finish
