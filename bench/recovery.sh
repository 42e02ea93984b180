#!/bin/bash
# How long until PostgreSQL accepts connections again after SIGKILL, with much WAL since the last checkpoint: the demo's
# instance (recovers the volume, mounts it, replays) against a plain PostgreSQL on a local disk (replays). One session,
# same load. First without any checkpoint between the load's begin and the crash, then with each server's own settings.
#
# For each amount of WAL: seconds until a connection is accepted, their ratio, and how much either grows with the amount;
# then where they went, as PostgreSQL's log says: redo, and the checkpoint at its end. The plain server's WAL has page
# images (it needs them, the demo's does not), so the same amount holds fewer changes: rows updated are shown, too.
#
# Needs root. Settings by environment: WAL_MB ("100 400 1000"), LOAD_SECONDS with own settings (25), SCALE (10),
# BUFFERS (256MB), NETWORK (127.0.78), PORT (25710).
set -eu
. "$(dirname "$0")/lib.sh"
WAL_MB=${WAL_MB-100 400 1000} LOAD_SECONDS=${LOAD_SECONDS:-25} NETWORK=${NETWORK:-127.0.78} PORT=${PORT:-25710}

kill_and_restart() {
    case $1 in
    auriga) "$AURIGA" inject restart writer --dir "$WORK/demo" >/dev/null ;;
    plain)
        local pid all; all="${PID[plain]} $(cat "/proc/${PID[plain]}/task/${PID[plain]}/children")"
        # shellcheck disable=SC2086 # a list of processes
        { kill -9 $all && wait "${PID[plain]}"; } 2>/dev/null || true
        for pid in $all; do while kill -0 "$pid" 2>/dev/null; do sleep .005; done; done
        run_server plain ;;
    esac
}
server_log() { case $1 in auriga) ls -t "$WORK"/demo/instances/*/postgres.log | head -1 ;; plain) echo "$WORK/plain.log" ;; esac; }
wal_bytes() { sql "$1" "select pg_current_wal_lsn() - '0/0'"; }
measure() { # SERVER bytes|seconds AMOUNT: leaves SECONDS_TAKEN, ROWS, REDO and CHECKPOINT
    local server=$1 begin end log
    sql "$server" checkpoint
    begin=$(case $2 in bytes) wal_bytes "$server" ;; seconds) date +%s ;; esac)
    end=$((begin + $3)) ROWS=0
    while [ "$(case $2 in bytes) wal_bytes "$server" ;; seconds) date +%s ;; esac)" -lt "$end" ]; do
        sql "$server" "update pgbench_accounts set abalance = abalance + 1 where aid % 20 = $((ROWS / 5000 / SCALE * 7 % 20))"
        ROWS=$((ROWS + 5000 * SCALE))
    done
    begin=$(date +%s.%N)
    kill_and_restart "$server"
    until_ready "$server"
    SECONDS_TAKEN=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN {printf "%.2f", b - a}')
    log=$(server_log "$server")
    REDO=$(grep 'redo done' "$log" | tail -1 | grep -o 'elapsed: [0-9.]*' | cut -d' ' -f2)
    CHECKPOINT=$(grep 'checkpoint complete' "$log" | tail -1 | grep -o 'total=[0-9.]*' | cut -d= -f2)
}

start_auriga "$NETWORK"
start_server plain "$PORT"
for server in auriga plain; do
    until_ready $server
    for setting in "checkpoint_timeout = '1h'" "max_wal_size = '16GB'" "autovacuum = off" "log_checkpoints = on"; do
        sql $server "alter system set $setting"
    done
    sql $server "select pg_reload_conf()" >/dev/null
    load $server
done
conditions
printf '%-16s %8s %8s %8s %9s %9s   %s\n' "seconds" auriga plain ratio "a growth" "p growth" "redo + checkpoint, rows updated: auriga | plain"
a_first='' p_first=''
row() { # LABEL bytes|seconds AMOUNT
    measure auriga "$2" "$3"
    local a=$SECONDS_TAKEN went="$REDO + $CHECKPOINT, $ROWS" p
    measure plain "$2" "$3"
    p=$SECONDS_TAKEN went="$went | $REDO + $CHECKPOINT, $ROWS"
    a_first=${a_first:-$a} p_first=${p_first:-$p}
    awk -v l="$1" -v a="$a" -v p="$p" -v fa="$a_first" -v fp="$p_first" -v w="$went" \
        'BEGIN {printf "%-16s %8.2f %8.2f %8.2f %9.2f %9.2f   %s\n", l, a, p, a / p, a / fa, p / fp, w}'
}
for megabytes in $WAL_MB; do
    row "$megabytes MB of WAL" bytes $((megabytes * 1000000))
done
for server in auriga plain; do
    for setting in checkpoint_timeout max_wal_size; do sql $server "alter system reset $setting"; done
    sql $server "select pg_reload_conf()" >/dev/null
done
row "own settings" seconds "$LOAD_SECONDS"
