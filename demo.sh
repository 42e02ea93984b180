#!/bin/sh
# Installs what is missing, builds, and runs the demo. Arguments go to `auriga demo`; try --tour.
set -eu
cd "$(dirname "$0")"
./install.sh
PATH="$PATH:$HOME/.cargo/bin"
# The first build takes minutes: it shows what it does.
quiet=--quiet
[ -x target/release/auriga ] || quiet=
cargo build --release $quiet -p auriga
# An ordinary user can mount in a namespace of its own, where the system lets it; otherwise it takes root.
if [ "$(id -u)" = 0 ] || { [ -w /dev/fuse ] && unshare --user --mount true 2>/dev/null; }; then
    exec ./target/release/auriga demo "$@"
fi
exec sudo ./target/release/auriga demo "$@"
