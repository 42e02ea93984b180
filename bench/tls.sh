#!/bin/bash
# What TLS costs: the demo with certificates beside the demo without, in one interleaved session on this machine.
# First pgbench's TPC-B (transactions per second), then the volume without PostgreSQL (commits per second). In each round
# the two run one after another, and each in its turn goes first. Prints medians, their ratio, and the lowest and highest
# ratio of a round.
#
# Needs root. Settings by environment: SECONDS_PER_CELL (10), ROUNDS (5), SCALE (10), BUFFERS (256MB), CLIENTS ("8"),
# WRITERS ("1 32"), NETWORK and NETWORK2 (127.0.78, 127.0.79). With these, eight minutes.
set -eu
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"
SECONDS_PER_CELL=${SECONDS_PER_CELL:-10} ROUNDS=${ROUNDS:-5} CLIENTS=${CLIENTS:-8} WRITERS=${WRITERS:-1 32}
NETWORK=${NETWORK:-127.0.78} NETWORK2=${NETWORK2:-127.0.79}
SERVERS=(clear tls)
RAW=${RAW:-target/release/examples/raw_volume}
[ -x "$RAW" ] || PATH="$PATH:$HOME/.cargo/bin" cargo build --release --quiet -p auriga-storage --example raw_volume

start_demo() { # NAME NETWORK OPTIONS...
    local name=$1 network=$2; shift 2
    setpriv --pdeathsig INT "$AURIGA" demo --readers 0 --dir "$WORK/$name" --network "$network" --shared-buffers "$BUFFERS" "$@" \
        >"$WORK/$name.log" 2>&1 &
    PID[$name]=$!
    ADDRESS[$name]="-h $network.11 -p 5432"
}
# Both servers are demos, which an interrupt ends in order.
end() {
    local server
    for server in "${!PID[@]}"; do kill -INT "${PID[$server]}" 2>/dev/null || true; done
    for server in "${!PID[@]}"; do wait "${PID[$server]}" 2>/dev/null || true; done
}
tpcb() { # SERVER CLIENTS
    # shellcheck disable=SC2086 # options
    "$BIN/pgbench" ${ADDRESS[$1]} -n -U postgres -M prepared -c "$2" -j 2 -T "$SECONDS_PER_CELL" postgres \
        2>"$WORK/err" | awk '/^tps/ {print $3}'
}
raw() { # SERVER WRITERS
    local option=(); [ "$1" = clear ] || option=(--tls)
    "$RAW" --seconds "$SECONDS_PER_CELL" --writers "$2" --dir "$WORK" "${option[@]}" 2>/dev/null | awk '/rate/ {print $2}'
}
round() { # NUMBER LABEL COMMAND SIZES...
    local number=$1 label=$2 command=$3 size i server; shift 3
    for size in "$@"; do
        for i in 0 1; do
            server=${SERVERS[(number + i) % 2]}
            echo "$label, $size at once|$server|$($command "$server" "$size")" >>"$WORK/cells"
        done
    done
}

start_demo clear "$NETWORK" --plaintext
start_demo tls "$NETWORK2"
for server in "${SERVERS[@]}"; do
    until_ready "$server"
    load "$server"
    tpcb "$server" 8 >/dev/null # each page's first change after the load is behind us
done
conditions
echo "# $ROUNDS rounds of $SECONDS_PER_CELL s a cell; ratio of the medians (lowest to highest of a round)"
# shellcheck disable=SC2086 # lists
for ((n = 0; n < ROUNDS; n++)); do round "$n" TPC-B tpcb $CLIENTS; done
end
PID=()
# shellcheck disable=SC2086 # lists
for ((n = 0; n < ROUNDS; n++)); do round "$n" "raw commits" raw $WRITERS; done
python3 - "$WORK/cells" <<'PYTHON'
import sys
from statistics import median
cells = {}
for line in open(sys.argv[1]):
    label, server, rate = line.split("|")
    cells.setdefault(label, {}).setdefault(server, []).append(float(rate))
print("{:<28} {:>8} {:>8} {:>22}".format("per second", "clear", "tls", "tls/clear"))
for label, of in cells.items():
    rounds = [a / b for a, b in zip(of["tls"], of["clear"])]
    clear, tls = median(of["clear"]), median(of["tls"])
    print(f"{label:<28} {clear:>8.0f} {tls:>8.0f} {f'{tls / clear:.2f} ({min(rounds):.2f} to {max(rounds):.2f})':>22}")
PYTHON
