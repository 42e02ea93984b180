#!/bin/bash
# A long run of TPC-B, and what it leaves: do memory and disk stay within their bounds, and is the database whole?
#
# Runs pgbench (scale SCALE, CLIENTS clients, SECONDS_LONG seconds) against the demo and samples the memory of every
# process and the disk that each copy takes every five seconds. Prints the highest, and the growth over the second half of
# the run. Then pg_amcheck over everything; then pg_dump, restored into a plain PostgreSQL and dumped again: the same
# bytes. Exit code 1 if a bound is passed (300 MB for a storage process, the page cache's limit and 300 MB for the
# instance's; on the disk DISK_FACTOR times the database with its WAL at the end, and 200 MB for a journal), or anything is
# not whole. DISK_FACTOR=0 shows that the check of the disk can fail, if the run is long enough for 200 MB.
#
# Needs root. Settings by environment: SECONDS_LONG (600), SCALE (10), CLIENTS (32), BUFFERS (256MB), NETWORK (127.0.78),
# DISK_FACTOR (1.5), DISK_BASE (200, in MB).
set -eu
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"
SECONDS_LONG=${SECONDS_LONG:-600} CLIENTS=${CLIENTS:-32} NETWORK=${NETWORK:-127.0.78} PLAIN=25703 CACHE_MIB=256
BOUND=300000000 DISK_FACTOR=${DISK_FACTOR:-1.5} DISK_BASE=${DISK_BASE:-200}
failed=0

start_auriga "$NETWORK" --cache-mib "$CACHE_MIB"
until_ready auriga
load auriga
conditions

# shellcheck disable=SC2086 # options
"$BIN/pgbench" ${ADDRESS[auriga]} -n -U postgres -M prepared -c "$CLIENTS" -j 2 -T "$SECONDS_LONG" -P 30 postgres >"$WORK/run" 2>"$WORK/progress" &
RUN=$!
# One line a process and sample: seconds, name, resident bytes. The instance's processes report theirs under its name.
while kill -0 "$RUN" 2>/dev/null; do
    "$AURIGA" status --json --dir "$WORK/demo" | python3 -c '
import json, sys
status = json.load(sys.stdin)
for process in status["storage"] + status["instances"]:
    if process["status"]:
        print(sys.argv[1], process["member"]["name"], process["status"]["rss_bytes"])' "$SECONDS" >>"$WORK/samples" || true
    du -sk "$WORK"/demo/storage/* | awk -v now="$SECONDS" '{ n = split($2, path, "/"); print now, path[n], $1 * 1024 }' >>"$WORK/disk"
    sleep 5
done
wait "$RUN" || { cat "$WORK/progress" >&2; exit 1; }
grep -E '^(tps|latency average|number of failed|number of transactions actually)' "$WORK/run"

# What the database and its WAL took at the end is what a copy must hold; the rest is a journal, and room kept for updates.
held=$(sql auriga "select (select sum(pg_database_size(oid)) from pg_database) + (select sum(size) from pg_ls_waldir())")
awk -v held="$held" -v factor="$DISK_FACTOR" -v base="$DISK_BASE" '
    { n[$2]++; at[$2, n[$2]] = $3; if ($3 > most[$2]) most[$2] = $3 }
    END {
        limit = held * factor + base * 1e6
        for (name in n) {
            growth = at[name, n[name]] - at[name, int(n[name] / 2) + 1]
            verdict = at[name, n[name]] > limit ? "  PASSED" : ""
            printf "%-8s %8.1f MB of disk at most, %6.1f MB more in the second half; bound %5.0f MB%s\n", name, most[name] / 1e6, growth / 1e6, limit / 1e6, verdict
            if (verdict != "") bad = 1
        }
        exit bad
    }' "$WORK/disk" >"$WORK/disk.told" || failed=1
sort "$WORK/disk.told"

awk -v bound=$BOUND -v cache=$((CACHE_MIB << 20)) '
    { n[$2]++; at[$2, n[$2]] = $3; if ($3 > most[$2]) most[$2] = $3 }
    END {
        for (name in n) {
            limit = name == "writer" ? bound + cache : bound
            growth = at[name, n[name]] - at[name, int(n[name] / 2) + 1]
            verdict = most[name] > limit ? "  PASSED" : ""
            printf "%-8s %8.1f MB at most, %6.1f MB more in the second half; bound %5.0f MB%s\n", name, most[name] / 1e6, growth / 1e6, limit / 1e6, verdict
            if (verdict != "") bad = 1
        }
        exit bad
    }' "$WORK/samples" >"$WORK/memory" || failed=1
sort "$WORK/memory"

# shellcheck disable=SC2086 # options
if "$BIN/pg_amcheck" ${ADDRESS[auriga]} -U postgres --install-missing --heapallindexed postgres; then echo "pg_amcheck: clean"; else failed=1; fi
start_server plain "$PLAIN" "fsync = off"
until_ready plain
# shellcheck disable=SC2086 # options
"$BIN/pg_dump" ${ADDRESS[auriga]} -U postgres postgres >"$WORK/first.sql"
# shellcheck disable=SC2086 # options
"$BIN/psql" ${ADDRESS[plain]} -XqAt -U postgres -d postgres -v ON_ERROR_STOP=1 -f "$WORK/first.sql" >/dev/null
# shellcheck disable=SC2086 # options
"$BIN/pg_dump" ${ADDRESS[plain]} -U postgres postgres >"$WORK/second.sql"
# Newer pg_dumps fence their output with a random key.
for dump in first second; do sed -i '/^\\\(un\)\?restrict /d' "$WORK/$dump.sql"; done
if cmp "$WORK/first.sql" "$WORK/second.sql"; then
    echo "pg_dump, restored into a plain PostgreSQL, dumps the same $(stat -c %s "$WORK/first.sql") bytes again"
else failed=1; fi
exit $failed
