#!/bin/bash
# Is space given back? Loads a table of LOAD_MB into the demo and drops it, ROUNDS times, then updates rows for
# UPDATE_SECONDS, and shows what six copies take on the disk: fresh, after each load, after each drop, and after the
# updates; beside it what a plain PostgreSQL's directory takes, that does the same. Both with max_wal_size = 64MB, so that
# little of it is WAL.
#
# Exit code 1 if a copy takes more than 1.5 times what it took fresh PATIENCE seconds after a drop, or after the updates
# (for which the demo keeps an eighth of its pages, so the rows' own growth is allowed for: that of the plain server).
#
# Needs root. Settings by environment: LOAD_MB (300), ROUNDS (3), UPDATE_SECONDS (60), PATIENCE (180), SCALE (1), BUFFERS
# (64MB), NETWORK (127.0.44), PORT (25720).
set -eu
BUFFERS=${BUFFERS:-64MB} SCALE=${SCALE:-1}
. "$(dirname "$0")/lib.sh"
LOAD_MB=${LOAD_MB:-300} ROUNDS=${ROUNDS:-3} UPDATE_SECONDS=${UPDATE_SECONDS:-60} PATIENCE=${PATIENCE:-180}
NETWORK=${NETWORK:-127.0.44} PORT=${PORT:-25720}
FACTOR=1.5
failed=0

kib() { du -sk --total "$@" | tail -1 | cut -f1; }
copy() { local all=("$WORK"/demo/storage/*); echo $(($(kib "${all[@]}") / ${#all[@]})); } # the mean of the six
plain() { kib "$WORK/plain"; }
show() { printf '%-26s %10.1f %10.1f\n' "$1" "$(($2 * 10 / 1024))e-1" "$(($3 * 10 / 1024))e-1"; }

start_auriga "$NETWORK"
start_server plain "$PORT"
for server in auriga plain; do
    until_ready $server
    for setting in "max_wal_size = '64MB'" "min_wal_size = '32MB'" "checkpoint_timeout = '30s'"; do
        sql $server "alter system set $setting"
    done
    sql $server "select pg_reload_conf()" >/dev/null
    load $server
    sql $server checkpoint
done
sleep 30 # What making the database took and is needed no more goes, too.
conditions
printf '%-26s %10s %10s\n' "MB on disk" "a copy" plain
fresh=$(copy) fresh_plain=$(plain)
show fresh "$fresh" "$fresh_plain"

within() { # ALLOWED KIB: waits until a copy takes no more; leaves LEFT
    local until=$((SECONDS + PATIENCE))
    while LEFT=$(copy); [ "$LEFT" -gt "$1" ]; do
        [ "$SECONDS" -lt "$until" ] || { failed=1; return; }
        sleep 2
    done
}
allowed() { awk -v f="$fresh" -v g="$((${1:-0} > 0 ? ${1:-0} : 0))" -v x=$FACTOR 'BEGIN {printf "%d", f * x + g}'; }
for round in $(seq "$ROUNDS"); do
    for server in auriga plain; do
        sql $server "create table big as select g id, md5(g::text) || md5((g + 1)::text) || repeat('x', 300) t
            from generate_series(1, $LOAD_MB * 2600) g"
        sql $server checkpoint
    done
    show "round $round: loaded" "$(copy)" "$(plain)"
    for server in auriga plain; do
        sql $server "drop table big"
        sql $server checkpoint
    done
    dropped=$SECONDS
    within "$(allowed)"
    show "round $round: dropped, $((SECONDS - dropped)) s" "$LEFT" "$(plain)"
done
for server in auriga plain; do
    # shellcheck disable=SC2086 # options
    "$BIN/pgbench" ${ADDRESS[$server]} -n -U postgres -c 4 -j 1 -T "$UPDATE_SECONDS" postgres >"$WORK/run.$server" 2>&1
    sql $server checkpoint
done
within "$(allowed $(($(plain) - fresh_plain)))"
show "after $UPDATE_SECONDS s of updates" "$LEFT" "$(plain)"
grep -h '^tps' "$WORK/run.auriga" "$WORK/run.plain"
[ $failed = 0 ] || echo "FAILED: a copy still takes more than $FACTOR times what it took fresh"
exit $failed
