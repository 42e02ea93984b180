#!/bin/sh
# Installs what is missing, builds, and runs the demo. Arguments go to `auriga demo`; try --tour.
set -eu
cd "$(dirname "$0")"
./install.sh
PATH="$PATH:$HOME/.cargo/bin"
cargo build --release --quiet -p auriga
# Mounting needs root.
if [ "$(id -u)" = 0 ]; then exec ./target/release/auriga demo "$@"; else exec sudo ./target/release/auriga demo "$@"; fi
