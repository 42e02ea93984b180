#!/bin/bash
# A reader beside a plain streaming standby of the same writer, in the same session:
# - visibility lag under TPC-B: a row is committed on the writer, and the standby is asked until it shows the row; the two in
#   turn, half of PROBES each;
# - reads of single rows a second with the same shared_buffers, in turn, ROUNDS times;
# - the writer's processor time for a transaction (mount and PostgreSQL), with the reader and with the reader killed, in turn.
# The plain standby streams throughout.
#
# Needs root. Settings by environment: SECONDS_PER_PHASE (10), ROUNDS (3), CLIENTS (8), PROBES (1000), SCALE (10),
# BUFFERS (64MB), NETWORK (127.0.109).
set -eu
BUFFERS=${BUFFERS:-64MB}
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"
SECONDS_PER_PHASE=${SECONDS_PER_PHASE:-10} ROUNDS=${ROUNDS:-3} CLIENTS=${CLIENTS:-8} PROBES=${PROBES:-1000}
NETWORK=${NETWORK:-127.0.109}

inject() { "$AURIGA" inject "$@" --dir "$WORK/demo" >/dev/null; }
bench() { # SERVER SECONDS OPTIONS...: transactions per second
    local to=$1 seconds=$2; shift 2
    # shellcheck disable=SC2086 # options
    (cd "$WORK" && "$BIN/pgbench" ${ADDRESS[$to]} -n -U postgres -M prepared -j 2 -T "$seconds" "$@" postgres 2>/dev/null) | awk '/^tps/ {print $3}'
}
# Processor time of the writer and of all that it has started, in seconds.
cpu() {
    "$AURIGA" status --json --dir "$WORK/demo" | python3 -c '
import json, os, sys
writer = next(i for i in json.load(sys.stdin)["instances"] if i["member"]["name"] == "writer")
stats = {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try: fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    except OSError: continue
    stats[int(pid)] = (int(fields[1]), sum(map(int, fields[11:15])))
tree = {writer["member"]["pid"]}
while True:
    more = {pid for pid, (parent, _) in stats.items() if parent in tree} - tree
    if not more: break
    tree |= more
print(sum(stats[pid][1] for pid in tree if pid in stats) / os.sysconf("SC_CLK_TCK"))'
}
until_followed() { until [ "$(sql reader 'select 1' 2>/dev/null)" = 1 ]; do sleep .2; done; }

start_auriga "$NETWORK" --readers 1
ADDRESS[reader]="-h $NETWORK.12 -p 5432"
until_ready auriga
until_followed
load auriga
# As `start_standby` does, with what a standby of this writer must have besides.
as_postgres "$BIN/pg_basebackup" -h "$NETWORK.11" -p 5432 -U postgres -D "$WORK/plain" -c fast --no-sync
as_postgres touch "$WORK/plain/standby.signal"
start_server plain 6609 "primary_conninfo = 'host=$NETWORK.11 port=5432 user=postgres application_name=plain'" \
    "max_wal_senders = $(sql auriga show max_wal_senders)"
until_ready plain
conditions
echo "# $CLIENTS clients, $PROBES probes, $ROUNDS rounds of $SECONDS_PER_PHASE s a phase"

sql auriga "create table probe (n int primary key)"
bench auriga $((PROBES / 20 + 20)) -c "$CLIENTS" >"$WORK/tps" &
LOAD=$!
sleep 2
python3 - "$BIN/psql" "$PROBES" "${ADDRESS[auriga]}" "${ADDRESS[reader]}" "${ADDRESS[plain]}" <<'PYTHON'
import subprocess, sys, time
psql, probes = sys.argv[1], int(sys.argv[2])
class Session:
    def __init__(self, address):
        command = [psql, *address.split(), "-XqAt", "-U", "postgres", "-d", "postgres"]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    def ask(self, sql):
        self.child.stdin.write(sql + "\n")
        self.child.stdin.flush()
        return self.child.stdout.readline().strip()
writer, reader, plain = (Session(address) for address in sys.argv[3:])
lags = {"reader": [], "plain": []}
for n in range(probes):
    name, standby = (("reader", reader), ("plain", plain))[n % 2]
    assert writer.ask(f"insert into probe values ({n}) returning n;") == str(n)
    committed = time.monotonic()
    while standby.ask(f"select count(*) from probe where n = {n};") != "1": pass
    lags[name].append((time.monotonic() - committed) * 1000)
    time.sleep(0.02)
for name, all in lags.items():
    all.sort()
    print(f"visibility lag  {name:<7} p50 {all[len(all) // 2]:6.2f} ms  p99 {all[len(all) * 99 // 100]:6.2f} ms  most {all[-1]:6.2f} ms")
PYTHON
wait $LOAD
echo "                under TPC-B at $(cat "$WORK/tps") transactions/s"

for _ in $(seq "$ROUNDS"); do
    for server in reader plain; do bench $server "$SECONDS_PER_PHASE" -S -c "$CLIENTS" >>"$WORK/reads.$server"; done
done
for _ in $(seq "$ROUNDS"); do
    for with in with without; do
        if [ $with = without ]; then inject kill reader-1; sleep 1; fi
        before=$(cpu)
        tps=$(bench auriga "$SECONDS_PER_PHASE" -c "$CLIENTS")
        python3 -c "print(($(cpu) - $before) / ($tps * $SECONDS_PER_PHASE) * 1e6, $tps)" >>"$WORK/cpu.$with"
        if [ $with = without ]; then inject restart reader-1; until_followed; fi
    done
done
python3 - "$WORK" <<'PYTHON'
import sys
from statistics import median
column = lambda name, at: median(float(line.split()[at]) for line in open(f"{sys.argv[1]}/{name}"))
reader, plain = column("reads.reader", 0), column("reads.plain", 0)
print(f"reads a second  reader {reader:9.0f}  plain {plain:9.0f}  ratio {reader / plain:.2f}")
(cpu, tps), (cpu0, tps0) = ((column(f"cpu.{name}", 0), column(f"cpu.{name}", 1)) for name in ("with", "without"))
print(f"writer's processor time for a transaction  with a reader {cpu:.0f} µs at {tps:.0f}/s, without {cpu0:.0f} µs at {tps0:.0f}/s: {100 * (cpu / cpu0 - 1):+.1f} %")
PYTHON
