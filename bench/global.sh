#!/bin/bash
# Two regions with a late network between them: how old is what is read in the secondary under TPC-B, bytes between the regions per
# transaction, and for how long nobody can write in a switchover, in a failover, and until a lost region follows again. The
# peer: a streaming standby of one PostgreSQL behind a network that is as late (a relay), asynchronous, as it would stand in
# another region.
#
# RTT (milliseconds): "0 80 200". CLIENTS: 8. RUN (seconds of load): 20. ROUNDS (switchovers, and failovers, at each): 3.
# SERVERS: "auriga standby".
set -euo pipefail
. "$(dirname "$0")/lib.sh"
RTT=${RTT:-0 80 200} CLIENTS=${CLIENTS:-8} RUN=${RUN:-20} ROUNDS=${ROUNDS:-3} SERVERS=${SERVERS:-auriga standby}
NETWORK=${NETWORK:-127.0.91} PORT=${PORT:-25900}
conditions
echo "# $CLIENTS clients of TPC-B for $RUN s; milliseconds p50 p99"

now() { date +%s%N; }
millis() { echo $((($2 - $1) / 1000000)); }
host() { echo "${NETWORK%.*}.$((${NETWORK##*.} + $1 - 1)).11"; } # REGION
report() { "$AURIGA" status --global --json --dir "$WORK/demo" 2>/dev/null; }
# A path of the report, by Python's subscripts.
of_report() { report | python3 -c "import json,sys; r=json.load(sys.stdin); print($1)" 2>/dev/null || echo None; }
quantiles() { sort -n | awk '{ all[NR] = $1 } END { if (NR) printf "%d %d", all[int((NR + 1) / 2)], all[int((NR * 99 + 99) / 100)]; else printf "- -" }'; }
# shellcheck disable=SC2086 # options
tpc_b() { # ADDRESS SECONDS
    setpriv --pdeathsig KILL "$BIN/pgbench" $1 -n -c "$CLIENTS" -j 2 -T "$2" -U postgres postgres 2>/dev/null
}
# shellcheck disable=SC2086 # options
begin_load() { # ADDRESS: until it is ended
    setpriv --pdeathsig KILL "$BIN/pgbench" $1 -n -c "$CLIENTS" -j 2 -T 600 -U postgres postgres >/dev/null 2>&1 &
    LOAD=$!
}
end_load() { kill "$LOAD" 2>/dev/null || true; wait "$LOAD" 2>/dev/null || true; }
# shellcheck disable=SC2086 # options
first_commit() { # ADDRESS
    until PGCONNECT_TIMEOUT=2 "$BIN/psql" $1 -XqAt -U postgres -d postgres -c "insert into probe values (now())" >/dev/null 2>&1; do sleep .005; done
}
until_followed() { # SECONDARY: it has what the primary has
    until [ "$(of_report "[s['behind'] for s in [x['standing'] for x in r['regions'] if x['region'] == $1] if s and s['role'] == 'Secondary']")" = "[0]" ]; do sleep .1; done
}

auriga() {
    local rtt=$1 tps sent begun primary=1 other=2 to
    rm -rf "$WORK/demo"
    mkdir "$WORK/demo"
    setpriv --pdeathsig INT "$AURIGA" demo --global --wan-ms "$rtt" --dir "$WORK/demo" --network "$NETWORK" --shared-buffers "$BUFFERS" >"$WORK/auriga.log" 2>&1 &
    PID[auriga]=$!
    until grep -qs "Ctrl-C stops" "$WORK/auriga.log"; do kill -0 "${PID[auriga]}" || { cat "$WORK/auriga.log" >&2; exit 1; }; sleep .2; done
    ADDRESS[auriga]="-h $(host 1) -p 5432"
    load auriga
    sql auriga "create table probe (at timestamptz); create table beat (at timestamptz); insert into beat values (now())"
    until_followed 2
    sent=$(of_report "r['lines'][0]['there']")
    tpc_b "${ADDRESS[auriga]}" "$RUN" >"$WORK/tps" &
    to=$!
    python3 "$WORK/lag.py" "$BIN/psql" "${ADDRESS[auriga]}" "-h $(host 2) -p 5432" "$((RUN - 1))" >"$WORK/lags"
    wait $to
    tps=$(sed -n 's/^tps = \([0-9]*\).*/\1/p' "$WORK/tps")
    until_followed 2
    sent=$((($(of_report "r['lines'][0]['there']") - sent) / (tps * RUN)))
    echo "auriga rtt $rtt: $tps transactions/s; what is read there is late by $(quantiles <"$WORK/lags"); $sent bytes between regions per transaction"
    : >"$WORK/switch"
    for _ in $(seq $((2 * ROUNDS))); do
        begin_load "-h $(host "$primary") -p 5432"
        sleep 4
        begun=$(now)
        "$AURIGA" switchover --to "$other" --dir "$WORK/demo" >/dev/null &
        to=$!
        first_commit "-h $(host "$other") -p 5432"
        millis "$begun" "$(now)" >>"$WORK/switch"
        wait $to
        end_load
        read -r primary other <<<"$other $primary"
        until_followed "$other"
    done
    echo "auriga rtt $rtt: nobody writes in a switchover $(quantiles <"$WORK/switch")"
    : >"$WORK/failover"; : >"$WORK/rejoin"
    for _ in $(seq "$ROUNDS"); do
        begin_load "-h $(host "$primary") -p 5432"
        sleep 4
        "$AURIGA" inject kill "$primary" --dir "$WORK/demo" >/dev/null
        begun=$(now)
        "$AURIGA" failover --to "$other" --allow-data-loss --dir "$WORK/demo" >/dev/null &
        to=$!
        first_commit "-h $(host "$other") -p 5432"
        millis "$begun" "$(now)" >>"$WORK/failover"
        wait $to
        end_load
        read -r primary other <<<"$other $primary"
        begun=$(now)
        "$AURIGA" inject restart "$other" --dir "$WORK/demo" >/dev/null
        until_followed "$other"
        millis "$begun" "$(now)" >>"$WORK/rejoin"
    done
    echo "auriga rtt $rtt: nobody writes in a failover $(quantiles <"$WORK/failover"); a lost region is back, without a copy, $(quantiles <"$WORK/rejoin")"
    kill -INT "${PID[auriga]}" && wait "${PID[auriga]}" || true
    unset "PID[auriga]"
}

cat >"$WORK/relay.py" <<'PY'
# Relays a port to another one, late by so many milliseconds each way, and writes down the bytes that go back to who called.
import asyncio, sys
listen, to, late, count = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000, sys.argv[4]
back = 0
async def way(reader, writer, counts):
    global back
    queue = asyncio.Queue(256)
    async def put():
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - asyncio.get_running_loop().time()))
            if not data:
                return writer.close()
            writer.write(data)
            await writer.drain()
    sender = asyncio.create_task(put())
    while True:
        data = await reader.read(65536)
        back += len(data) if counts else 0
        await queue.put((asyncio.get_running_loop().time() + late, data))
        if not data:
            return await sender
async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", to)
    await asyncio.gather(way(reader, there[1], False), way(there[0], writer, True), return_exceptions=True)
async def main():
    await asyncio.start_server(serve, "127.0.0.1", listen)
    while True:
        await asyncio.sleep(.2)
        open(count, "w").write(str(back))
asyncio.run(main())
PY
# How old is what can be read there: one session writes the time into a row again and again, another one reads it.
cat >"$WORK/lag.py" <<'PY'
import subprocess, sys, threading, time
def session(address):
    psql = subprocess.Popen(sys.argv[1:2] + ["-XqAt", "-U", "postgres", "-d", "postgres"] + address.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def ask(statement):
        psql.stdin.write(statement + ";\n"); psql.stdin.flush()
        return psql.stdout.readline()
    return ask
here, there = session(sys.argv[2]), session(sys.argv[3])
end = time.time() + float(sys.argv[4])
def beat():
    while time.time() < end:
        here("update beat set at = clock_timestamp() returning 1")
        time.sleep(.005)
beats = threading.Thread(target=beat); beats.start()
time.sleep(1)
while time.time() < end:
    print(int(float(there("select extract(epoch from clock_timestamp() - at) * 1000 from beat"))))
    time.sleep(.02)
beats.join()
PY

standby() {
    local rtt=$1 tps sent to relay standby=standby$1
    if [ -z "${PID[primary]:-}" ]; then
        start_server primary "$PORT" "wal_keep_size = 1GB"
        until_ready primary
        load primary
        sql primary "create table beat (at timestamptz); insert into beat values (now())"
    fi
    setpriv --pdeathsig KILL python3 "$WORK/relay.py" "$((PORT + 1 + rtt))" "$PORT" "$((rtt / 2))" "$WORK/sent" &
    relay=$!
    sleep 1
    ADDRESS[far]="-h 127.0.0.1 -p $((PORT + 1 + rtt))"
    start_standby "$standby" "$((PORT + 500 + rtt))" far
    until_ready "$standby"
    sleep 1
    sent=$(cat "$WORK/sent")
    tpc_b "${ADDRESS[primary]}" "$RUN" >"$WORK/tps" &
    to=$!
    python3 "$WORK/lag.py" "$BIN/psql" "${ADDRESS[primary]}" "${ADDRESS[$standby]}" "$((RUN - 1))" >"$WORK/lags"
    wait $to
    sleep 1
    tps=$(sed -n 's/^tps = \([0-9]*\).*/\1/p' "$WORK/tps")
    echo "standby rtt $rtt: $tps transactions/s; what is read there is late by $(quantiles <"$WORK/lags"); $((($(cat "$WORK/sent") - sent) / (tps * RUN))) bytes between regions per transaction"
    kill -QUIT "${PID[$standby]}" && wait "${PID[$standby]}" || true
    unset "PID[$standby]"
    kill "$relay" && wait "$relay" || true
}

for rtt in $RTT; do
    for server in $SERVERS; do "$server" "$rtt"; done
done
