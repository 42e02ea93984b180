#!/bin/bash
# Does a slow segment make another one, or a commit, slow? TPC-B on the demo, undisturbed, then with one storage process
# slow, with two (of different AZs), and with one frozen; after each, all is well again until every copy has caught up.
# All of it ROUNDS times in turn. Prints for each: transactions per second and the latencies of transactions (pgbench's,
# each one counted), the append and page-read latencies of the segments that were left alone (median of the samples),
# each also as a ratio to the undisturbed phase of the same session, and the most memory that the writer and any storage
# process had. Then, with one frozen, BULK_MB of redo records for each copy: what waits for the frozen one is bounded.
#
# The page cache is small, so that pages are read from storage all the time.
#
# Needs root. Settings by environment: SECONDS_PER_PHASE (5), ROUNDS (3), CLIENTS (8), SLOW_MS (50), BULK_MB (64),
# SCALE (10), BUFFERS (16MB), CACHE_MIB (32), NETWORK (127.0.79).
set -eu
BUFFERS=${BUFFERS:-16MB}
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"
SECONDS_PER_PHASE=${SECONDS_PER_PHASE:-5} ROUNDS=${ROUNDS:-3} CLIENTS=${CLIENTS:-8} SLOW_MS=${SLOW_MS:-50}
BULK_MB=${BULK_MB:-64} NETWORK=${NETWORK:-127.0.79} CACHE_MIB=${CACHE_MIB:-32}
FROZEN=c2

inject() { "$AURIGA" inject "$@" --dir "$WORK/demo" >/dev/null; }
status() { "$AURIGA" status --json --dir "$WORK/demo"; }
# Every copy has what the writer has durable, but for what is on its way.
until_caught_up() {
    until status | python3 -c '
import json, sys
volume = json.load(sys.stdin)["instances"][0]["status"]["volume"]["writer"]
sys.exit(any(m["scl"] + 5000 < volume["vdl"] for m in volume["members"]))'; do sleep .2; done
}
phase() { # LABEL
    # shellcheck disable=SC2086 # options
    (cd "$WORK" && exec "$BIN/pgbench" ${ADDRESS[auriga]} -n -U postgres -M prepared -c "$CLIENTS" -j 2 -T "$SECONDS_PER_PHASE" -l \
        --log-prefix="$1" postgres >"$WORK/out" 2>"$WORK/err") &
    local pid=$!
    sleep 1
    while kill -0 $pid 2>/dev/null; do status >>"$WORK/$1.samples"; sleep .4; done
    wait $pid || { cat "$WORK/err" >&2; exit 1; }
    awk '/^tps/ {print $3}' "$WORK/out" >>"$WORK/$1.tps"
    cat "$WORK/$1".[0-9]* >>"$WORK/$1.latencies"
    rm "$WORK/$1".[0-9]*
}

start_auriga "$NETWORK" --cache-mib "$CACHE_MIB"
until_ready auriga
load auriga
phase warm
conditions
echo "# $CLIENTS clients, slow: every message $SLOW_MS ms late both ways, $ROUNDS rounds of $SECONDS_PER_PHASE s a phase"
for _ in $(seq "$ROUNDS"); do
    phase well
    inject slow a1 --ms "$SLOW_MS"
    phase one-slow
    inject slow b1 --ms "$SLOW_MS"
    phase two-slow
    inject heal az-a; inject heal az-b
    until_caught_up
    inject freeze $FROZEN
    phase one-frozen
    inject resume $FROZEN
    until_caught_up
done
python3 - "$WORK" <<'PYTHON'
import json, sys
from statistics import median
work = sys.argv[1]
disturbed = {"well": [], "one-slow": ["a1"], "two-slow": ["a1", "b1"], "one-frozen": ["c2"]}
def read(name): return open(f"{work}/{name}").read()
def documents(text):
    decode, at = json.JSONDecoder().raw_decode, 0
    while at < len(text.rstrip()):
        document, at = decode(text, at)
        while text[at:at + 1].isspace(): at += 1
        yield document
def figures(phase):
    latencies = sorted(int(line.split()[2]) for line in read(f"{phase}.latencies").splitlines())
    append, page_read, writer, storage = [], [], [], []
    for document in documents(read(f"{phase}.samples")):
        instance = document["instances"][0]["status"]
        if not instance: continue
        writer.append(instance["rss_bytes"] / 1e6)
        members = {m["member"]: m for m in instance["volume"]["writer"]["members"]}
        for index, process in enumerate(document["storage"]):
            if process["status"]:
                storage.append(process["status"]["rss_bytes"] / 1e6)
            if process["status"] and process["member"]["name"] not in disturbed[phase]:
                append.append(process["status"]["disk"]["append_micros_mean"])
                page_read.append(members[index]["read_latency"])
    return {"tps": median(map(float, read(f"{phase}.tps").split())), "p50 µs": latencies[len(latencies) // 2],
            "p99 µs": latencies[len(latencies) * 99 // 100], "append µs": median(append), "read µs": median(page_read),
            "writer MB": max(writer), "storage MB": max(storage)}
base = None
for phase in disturbed:
    of = figures(phase)
    if base is None:
        base = of
        print(f"{'':<12}" + "".join(f"{name:>16}" for name in of))
    print(f"{phase:<12}" + "".join(f"{f'{value:.0f} ({value / base[name]:.2f})':>16}" for name, value in of.items()))
PYTHON

echo
memory() { status | python3 -c '
import json, sys
instance = json.load(sys.stdin)["instances"][0]["status"]
print(instance["rss_bytes"] // 1000000, instance["volume"]["log_bytes_sent"] // 6000000, instance["volume"]["dropped_frames"])'; }
read -r before sent _ <<<"$(memory)"
inject freeze $FROZEN
most=0 now=$sent dropped=0
begun=$SECONDS
for ((n = 0; now - sent < BULK_MB; n++)); do
    sql auriga "update pgbench_accounts set abalance = abalance + 1 where aid % 10 = $((n % 10))"
    read -r rss now dropped <<<"$(memory)"
    if [ "$rss" -gt "$most" ]; then most=$rss; fi
done
echo "$FROZEN frozen for $((SECONDS - begun)) s, $((now - sent)) MB of records for each copy: memory of the writer $before MB before, $most MB at most, $dropped frames dropped"
inject resume $FROZEN
begun=$SECONDS
until_caught_up
read -r after _ <<<"$(memory)"
echo "resumed: it had everything after $((SECONDS - begun)) s; memory of the writer $after MB"
