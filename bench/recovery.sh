#!/bin/bash
# How long until PostgreSQL accepts connections again after SIGKILL, with much WAL since the last checkpoint: the demo's
# instance (recovers the volume, mounts it, replays) against a plain PostgreSQL (replays). One session, same load, same
# settings for checkpoints. Prints WAL replayed, seconds, and the ratio.
#
# Needs root. Settings by environment: WAL_MB ("100 1000"), SCALE (10), BUFFERS (256MB).
set -eu
cd "$(dirname "$0")/.."
WAL_MB=${WAL_MB:-100 1000} SCALE=${SCALE:-10} BUFFERS=${BUFFERS:-256MB}
BIN=$(dirname "$(readlink -f "$(command -v pg_ctl || ls /usr/lib/postgresql/*/bin/pg_ctl | tail -1)")")
AURIGA=${AURIGA:-./target/release/auriga}
PLAIN=25710
WORK=$(mktemp -d) NETWORK=127.0.78 DEMO=
chmod 711 "$WORK"
chown postgres: "$WORK"

as_postgres() { (cd "$WORK" && exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME="$WORK" "$@"); }
end() {
    [ -z "$DEMO" ] || { kill -INT "$DEMO" && wait "$DEMO"; } 2>/dev/null || true
    [ ! -f "$WORK/plain/postmaster.pid" ] || kill -QUIT "$(head -1 "$WORK/plain/postmaster.pid")" || true
    sleep 1
    rm -rf "$WORK"
}
trap end EXIT
host() { case $1 in auriga) echo "-h $NETWORK.11 -p 5432" ;; plain) echo "-h 127.0.0.1 -p $PLAIN" ;; esac; }
sql() { local to=$1; shift; # shellcheck disable=SC2046
    "$BIN/psql" $(host "$to") -XqAt -U postgres -d postgres -c "$*"; }
start_plain() { as_postgres "$BIN/pg_ctl" -D "$WORK/plain" -l "$WORK/plain.log" -W start >/dev/null; }
crash() {
    case $1 in
    auriga) "$AURIGA" inject restart writer --dir "$WORK/demo" >/dev/null ;;
    plain)
        local postmaster pid; postmaster=$(head -1 "$WORK/plain/postmaster.pid")
        local all; all="$postmaster $(cat "/proc/$postmaster/task/$postmaster/children")"
        # shellcheck disable=SC2086 # a list of processes
        kill -9 $all 2>/dev/null || true
        for pid in $all; do while kill -0 "$pid" 2>/dev/null; do sleep .005; done; done
        start_plain ;;
    esac
}
measure() { # SERVER MEGABYTES: prints seconds
    local before begun
    sql "$1" checkpoint
    before=$(sql "$1" "select pg_current_wal_lsn() - '0/0'")
    while [ "$(sql "$1" "select (pg_current_wal_lsn() - '0/0' - $before)::bigint / 1000000")" -lt "$2" ]; do
        sql "$1" "update pgbench_accounts set abalance = abalance + 1 where aid % 20 = $((RANDOM % 20))"
    done
    begun=$(date +%s.%N)
    crash "$1"
    until sql "$1" "select 1" >/dev/null 2>&1; do sleep .02; done
    awk -v a="$begun" -v b="$(date +%s.%N)" 'BEGIN {printf "%.1f", b - a}'
}

mkdir "$WORK/demo"
"$AURIGA" demo --dir "$WORK/demo" --network "$NETWORK" --shared-buffers "$BUFFERS" >"$WORK/demo.log" 2>&1 &
DEMO=$!
as_postgres "$BIN/initdb" -D "$WORK/plain" -A trust -U postgres --locale=C --encoding=UTF8 --no-sync >/dev/null
printf "port = %s\nunix_socket_directories = ''\nshared_buffers = %s\n" "$PLAIN" "$BUFFERS" >>"$WORK/plain/postgresql.conf"
start_plain
for server in auriga plain; do
    until sql $server "select 1" >/dev/null 2>&1; do sleep .2; done
    for setting in "checkpoint_timeout = '1h'" "max_wal_size = '16GB'" "autovacuum = off"; do
        sql $server "alter system set $setting"
    done
    sql $server "select pg_reload_conf()" >/dev/null
    # shellcheck disable=SC2046
    "$BIN/pgbench" $(host $server) -i -q -s "$SCALE" -U postgres postgres >/dev/null 2>&1
done
echo "# $(date -u +%F) $(nproc) cores, scale $SCALE, load $(cut -d' ' -f1 /proc/loadavg)"
printf '%-24s %10s %10s %12s\n' "seconds to accept" auriga plain auriga/plain
for megabytes in $WAL_MB; do
    auriga=$(measure auriga "$megabytes") plain=$(measure plain "$megabytes")
    awk -v m="$megabytes" -v a="$auriga" -v p="$plain" 'BEGIN {printf "%-24s %10s %10s %12.2f\n", m " MB of WAL", a, p, a / p}'
done
