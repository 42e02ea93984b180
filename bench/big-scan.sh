#!/bin/bash
# A table larger than every cache, read in order from a cold cache: the demo beside a plain PostgreSQL, in one session.
#
# Loads TABLE_MB into each; then, ROUNDS times and in turn: drops the kernel's page cache and the mount's, and reads the
# table (count(*), no parallel workers). Prints the seconds of each round, the medians, and the demo's speed in parts of the
# plain one's. Then ANALYZE, in the same way.
#
# Exit code 1 if the demo reads at less than LEAST (0.5) of the plain server's speed.
#
# Needs root. Settings by environment: TABLE_MB (1024), ROUNDS (3), LEAST (0.5), CACHE_MIB (256), BUFFERS (256MB), NETWORK
# (127.0.44), PORT (25730).
set -eu
. "$(dirname "$0")/lib.sh"
TABLE_MB=${TABLE_MB:-1024} ROUNDS=${ROUNDS:-3} LEAST=${LEAST:-0.5} CACHE_MIB=${CACHE_MIB:-256}
NETWORK=${NETWORK:-127.0.44} PORT=${PORT:-25730}

# A restart of the instance empties what it and its PostgreSQL have cached.
cold() {
    case $1 in
    auriga) "$AURIGA" inject restart writer --dir "$WORK/demo" >/dev/null ;;
    plain)
        local pid=${PID[plain]}
        kill -INT "$pid"
        wait "$pid" 2>/dev/null || true
        run_server plain ;;
    esac
    sync
    echo 3 >/proc/sys/vm/drop_caches
    until_ready "$1"
}
seconds() { # SERVER STATEMENT
    local begin; begin=$(date +%s.%N)
    sql "$1" "set max_parallel_workers_per_gather = 0" "; $2" >/dev/null
    awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN {printf "%.2f", b - a}'
}
median() { sort -n | awk '{all[NR] = $1} END {print all[int((NR + 1) / 2)]}'; }

start_auriga "$NETWORK" --cache-mib "$CACHE_MIB"
start_server plain "$PORT"
for server in auriga plain; do
    until_ready $server
    sql $server "create table big as select g id, md5(g::text) || repeat('x', 900) t from generate_series(1, $TABLE_MB * 1024) g"
    sql $server "vacuum (freeze) big"
    sql $server checkpoint
done
conditions
printf '%-12s %10s %10s %16s\n' "seconds" auriga plain "of plain's speed"
failed=0
for what in "select count(*) from big" "analyze big"; do
    for round in $(seq "$ROUNDS"); do
        for server in auriga plain; do
            cold $server
            seconds $server "$what" >>"$WORK/took.${what%% *}.$server"
            echo >>"$WORK/took.${what%% *}.$server"
        done
    done
    a=$(median <"$WORK/took.${what%% *}.auriga") p=$(median <"$WORK/took.${what%% *}.plain")
    awk -v l="${what%% *}" -v a="$a" -v p="$p" 'BEGIN {printf "%-12s %10.2f %10.2f %16.2f\n", l, a, p, p / a}'
    [ "${what%% *}" = analyze ] || awk -v a="$a" -v p="$p" -v least="$LEAST" 'BEGIN {exit p / a < least}' || failed=1
done
[ $failed = 0 ] || echo "FAILED: less than $LEAST of the plain server's speed"
exit $failed
