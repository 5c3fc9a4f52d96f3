#!/bin/sh
# packaging/install.sh BINARY ROOT: installs the program, its manual pages, completions for three shells, and the descriptions
# of its messages below ROOT.
# The completions come from the program itself, so they always fit it.
set -eu

here=$(dirname "$0")
binary=$1
root=$2

install -D -m 755 "$binary" "$root/bin/provost"
install -D -m 644 "$here/provost.1" "$root/share/man/man1/provost.1"
install -d -m 755 "$root/share/man/man5"
"$binary" help --man=config > "$root/share/man/man5/provost.toml.5"
chmod 644 "$root/share/man/man5/provost.toml.5"

# What clients over gRPC are made of (docs/recipes.md).
for package in provost/v1 nomos/provider/v1 constellation/provider/v1; do
    install -d -m 755 "$root/share/provost/proto/$package"
    install -m 644 "$here/../proto/$package"/*.proto "$root/share/provost/proto/$package"
done

completions() {
    install -d -m 755 "$(dirname "$root/share/$2")"
    "$binary" completions "$1" > "$root/share/$2"
    chmod 644 "$root/share/$2"
}
completions bash bash-completion/completions/provost
completions zsh zsh/site-functions/_provost
completions fish fish/vendor_completions.d/provost.fish

echo "installed $("$binary" version | sed -n 1p): $root/bin/provost, its manual pages, completions and proto"
