#!/bin/sh
# Every test of the workspace, unit to whole clusters. Tests that mount need root; as another user they say so and fail.
set -eu
cd "$(dirname "$0")"
./install.sh
PATH="$PATH:$HOME/.cargo/bin"
cargo test --workspace "$@"
