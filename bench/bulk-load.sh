#!/bin/bash
# Bulk loads: the demo beside the peer that writes as much, a PostgreSQL that waits for four of six standbys, and beside a
# single one, in one session. What each step takes: pgbench's tables (scale SCALE), COPY of a table out of a file, an index,
# VACUUM FULL, and a dump restored.
#
# Prints seconds, and the demo's in parts of each peer's. Then the highest resident memory of the demo's instance (its page
# cache may take CACHE_MIB), and the processor time of all the demo's processes together.
#
# Exit code 1 if the instance took more than 150 MB beside its page cache, or a step fails.
#
# Needs root. Settings by environment: SCALE (20), COPY_ROWS (1000000), CACHE_MIB (256), BUFFERS (256MB), NETWORK
# (127.0.44), PORT (25740).
set -eu
SCALE=${SCALE:-20}
. "$(dirname "$0")/lib.sh"
COPY_ROWS=${COPY_ROWS:-1000000} CACHE_MIB=${CACHE_MIB:-256} NETWORK=${NETWORK:-127.0.44} PORT=${PORT:-25740}
QUORUM=$((PORT + 1))
SERVERS=(auriga quorum single)

start_auriga "$NETWORK" --cache-mib "$CACHE_MIB"
start_server single "$PORT" "max_wal_size = '16GB'"
start_server quorum "$QUORUM" "max_wal_size = '16GB'" "wal_keep_size = '4GB'"
until_ready quorum
for n in 1 2 3 4 5 6; do start_standby s$n $((QUORUM + n)) quorum; done
sql quorum "alter system set synchronous_standby_names = 'ANY 4 (s1, s2, s3, s4, s5, s6)'"
sql quorum "select pg_reload_conf()" >/dev/null
for server in "${SERVERS[@]}"; do until_ready "$server"; done
sql auriga "alter system set max_wal_size = '16GB'"
sql auriga "select pg_reload_conf()" >/dev/null

# The instance's memory, until the script ends.
while sleep 1; do
    "$AURIGA" status --json --dir "$WORK/demo" 2>/dev/null | python3 -c '
import json, sys
for process in json.load(sys.stdin)["instances"]:
    if process["status"]:
        print(process["status"]["rss_bytes"])' >>"$WORK/memory" 2>/dev/null || true
done &
PID[sampler]=$!

"$BIN/psql" -XqAt ${ADDRESS[single]} -U postgres -d postgres -c "copy (select g, md5(g::text), repeat('x', 200)
    from generate_series(1, $COPY_ROWS) g) to stdout" >"$WORK/rows"
step() { # SERVER STEP
    # shellcheck disable=SC2206 # options
    local to=(${ADDRESS[$1]} -U postgres)
    case $2 in
    pgbench) "$BIN/pgbench" "${to[@]}" -i -q -s "$SCALE" postgres ;;
    COPY)
        sql "$1" "create table copied (g int, m text, x text)"
        "$BIN/psql" "${to[@]}" -Xq -d postgres -c "copy copied from stdin" <"$WORK/rows" ;;
    index) sql "$1" "create index on copied (m)" ;;
    full) sql "$1" "vacuum full copied" ;;
    restore) sql "$1" "create database restored" && "$BIN/psql" "${to[@]}" -Xq -d restored -v ON_ERROR_STOP=1 -f "$WORK/dump" ;;
    esac >"$WORK/out" 2>&1 || { cat "$WORK/out" >&2; exit 1; }
}
conditions
printf '%-12s %8s %8s %8s %14s %14s\n' seconds "${SERVERS[@]}" auriga/quorum auriga/single
for what in pgbench COPY index full restore; do
    if [ $what = restore ]; then
        # shellcheck disable=SC2086 # options
        "$BIN/pg_dump" ${ADDRESS[single]} -U postgres postgres >"$WORK/dump"
    fi
    declare -A took=()
    for server in "${SERVERS[@]}"; do
        sql "$server" checkpoint
        begin=$(date +%s.%N)
        step "$server" $what
        took[$server]=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN {print b - a}')
    done
    awk -v l=$what -v a="${took[auriga]}" -v q="${took[quorum]}" -v s="${took[single]}" \
        'BEGIN {printf "%-12s %8.1f %8.1f %8.1f %14.2f %14.2f\n", l, a, q, s, a / q, a / s}'
done
ticks=$(getconf CLK_TCK)
for pid in "${PID[auriga]}" $(cat "/proc/${PID[auriga]}"/task/*/children); do
    awk -v t="$ticks" '{sub(/.*\) /, ""); print ($12 + $13) / t}' "/proc/$pid/stat"
done | awk '{all += $1} END {printf "processor time of the demo and its processes: %.0f s\n", all}'
sort -n "$WORK/memory" | awk -v limit=$(((CACHE_MIB << 20) + 150000000)) 'END {
    over = $1 > limit
    printf "memory of the instance: %.0f MB at most; bound %.0f MB%s\n", $1 / 1e6, limit / 1e6, (over ? ": EXCEEDED" : "")
    exit over
}'
