#!/bin/sh
# Installs what Auriga needs and this machine lacks: Rust, a C linker, PostgreSQL 15 or newer. Debian and Ubuntu.
# Arguments THING=PACKAGE are what the caller needs besides: the package is installed if there is no such program or path.
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing=""
command -v cc >/dev/null 2>&1 || missing="$missing build-essential"
command -v cargo >/dev/null 2>&1 || [ -x "$HOME/.cargo/bin/cargo" ] || missing="$missing curl ca-certificates"
ls /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 ||
    missing="$missing postgresql"
for wanted; do
    command -v "${wanted%=*}" >/dev/null 2>&1 || [ -e "${wanted%=*}" ] || missing="$missing ${wanted##*=}"
done
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null 2>&1 || { echo "please install:$missing" >&2; exit 1; }
    # A server of the distribution's own would take PostgreSQL's port: only the programs are wanted.
    as_root mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi
command -v cargo >/dev/null 2>&1 || [ -x "$HOME/.cargo/bin/cargo" ] ||
    curl -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component clippy --component rustfmt
[ -e /dev/fuse ] || as_root modprobe fuse || echo "warning: no /dev/fuse: the demo will say what to do" >&2
