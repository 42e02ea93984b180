#!/bin/bash
# pgbench against three servers in one interleaved session, on this machine:
#   auriga   the demo: PostgreSQL on six copies, four of which have synced before a commit is acknowledged
#   quorum   PostgreSQL with six streaming standbys, synchronous_standby_names = 'ANY 4 (...)': what one would run instead
#   single   one PostgreSQL without any copy
# In each round, the three run one after another for each load and number of clients, so that a busy machine slows all of
# them alike, and each in its turn goes first. Prints the medians of the rounds in transactions per second, their ratios,
# and the lowest and highest ratio of a round. Then bytes sent to the copies per transaction: without any checkpoint, with
# those that the demo makes by itself, and after one. The demo keeps its own frequent checkpoints in all the rounds; the
# other two make none while they are measured.
#
# Needs root. Settings by environment: SECONDS_PER_CELL (10), ROUNDS (3), SCALE (10), BUFFERS (256MB), CLIENTS of TPC-B
# ("1 8 32"), SELECT_CLIENTS ("8 32"), NETWORK (127.0.77), PORT (25720, and the seven above it). With these, ten minutes.
set -eu
# shellcheck source=bench/lib.sh
. "$(dirname "$0")/lib.sh"
SECONDS_PER_CELL=${SECONDS_PER_CELL:-10} ROUNDS=${ROUNDS:-3} CLIENTS=${CLIENTS-1 8 32} SELECT_CLIENTS=${SELECT_CLIENTS-8 32}
NETWORK=${NETWORK:-127.0.77} PORT=${PORT:-25720}
SERVERS=(auriga quorum single)
QUORUM=$((PORT + 1))

# Bytes sent so far to all copies.
sent() {
    case $1 in
    auriga) "$AURIGA" status --json --dir "$WORK/demo" | grep -o '"log_bytes_sent":[0-9]*' | head -1 | cut -d: -f2 ;;
    quorum) ss -Htin state established "( sport = :$QUORUM )" | grep -o 'bytes_sent:[0-9]*' | awk -F: '{n += $2} END {printf "%.0f\n", n}' ;;
    esac
}
cell() { # SERVER CLIENTS ARGUMENTS...: leaves TPS and TRANSACTIONS
    local server=$1 clients=$2; shift 2
    # shellcheck disable=SC2086 # options
    "$BIN/pgbench" ${ADDRESS[$server]} -n -U postgres -M prepared -c "$clients" -j 2 -T "$SECONDS_PER_CELL" "$@" postgres \
        >"$WORK/out" 2>"$WORK/err" || { cat "$WORK/err" >&2; exit 1; }
    TRANSACTIONS=$(awk '/actually processed/ {print $6}' "$WORK/out" | cut -d/ -f1)
    TPS=$(awk '/^tps/ {print $3}' "$WORK/out")
}
# How many bytes a transaction costs each server that copies, with 8 clients, in the time of CELLS cells.
measure_bytes() { # LABEL CELLS [STATEMENT]: the last is run on each just before it is measured
    local server before
    declare -A bytes=()
    for server in auriga quorum; do
        [ -z "${3:-}" ] || sql $server "$3"
        before=$(sent $server)
        SECONDS_PER_CELL=$((SECONDS_PER_CELL * $2)) cell $server 8
        sleep 1
        bytes[$server]=$((($(sent $server) - before) / TRANSACTIONS))
    done
    awk -v l="$1" -v a="${bytes[auriga]}" -v q="${bytes[quorum]}" 'BEGIN {printf "%-34s %8d %8d %14.2f\n", l, a, q, a / q}'
}
configure_auriga() { # STATEMENT...
    local statement
    for statement in "$@" "select pg_reload_conf()"; do sql auriga "$statement" >/dev/null; done
}
round() { # NUMBER: a line "LABEL|SERVER|ROUND|TPS" a cell in $WORK/cells
    local load clients list arguments i server
    for load in TPC-B select-only; do
        arguments=() list=$CLIENTS
        [ $load = TPC-B ] || { arguments=(-S); list=$SELECT_CLIENTS; }
        for clients in $list; do
            for i in 0 1 2; do
                server=${SERVERS[($1 + i) % 3]}
                cell "$server" "$clients" "${arguments[@]}"
                echo "$load, $clients clients|$server|$1|$TPS" >>"$WORK/cells"
            done
        done
    done
}
table() {
    python3 - "$WORK/cells" <<'PYTHON'
import sys
from statistics import median
cells = {}
for line in open(sys.argv[1]):
    label, server, _, tps = line.split("|")
    cells.setdefault(label, {}).setdefault(server, []).append(float(tps))
def ratio(of, to):
    rounds = [a / b for a, b in zip(of, to)]
    return f"{median(of) / median(to):.2f} ({min(rounds):.2f} to {max(rounds):.2f})"
row = "{:<26} {:>8} {:>8} {:>8} {:>22} {:>22}".format
print(row("transactions per second", "auriga", "quorum", "single", "auriga/quorum", "auriga/single"))
for label, of in cells.items():
    medians = [round(median(of[server])) for server in ("auriga", "quorum", "single")]
    print(row(label, *medians, ratio(of["auriga"], of["quorum"]), ratio(of["auriga"], of["single"])))
PYTHON
}

# Each base backup makes a checkpoint: without WAL kept, what the standby before it still has to fetch may be gone.
no_checkpoints=("max_wal_senders = 12" "wal_keep_size = 1GB" "checkpoint_timeout = 1h" "max_wal_size = 16GB")
start_auriga "$NETWORK"
start_server single "$PORT" "${no_checkpoints[@]}"
start_server quorum "$QUORUM" "${no_checkpoints[@]}"
until_ready quorum
for n in 1 2 3 4 5 6; do start_standby s$n $((QUORUM + n)) quorum; done
sql quorum "alter system set synchronous_standby_names = 'ANY 4 (s1, s2, s3, s4, s5, s6)'"
sql quorum "select pg_reload_conf()" >/dev/null
for server in "${SERVERS[@]}"; do
    until_ready "$server"
    load "$server"
    cell "$server" 8 # each page's first change after the load is behind us
done

conditions
echo "# $ROUNDS rounds of $SECONDS_PER_CELL s a cell; ratios of the medians (lowest to highest of a round)"
for ((n = 0; n < ROUNDS; n++)); do round "$n"; done
[ ! -s "$WORK/cells" ] || table

echo
printf '%-34s %8s %8s %14s\n' "bytes sent per transaction" auriga quorum auriga/quorum
configure_auriga "alter system set checkpoint_timeout = '1h'" "alter system set max_wal_size = '16GB'"
sql auriga checkpoint # what one of its own has begun is at its end
measure_bytes "no checkpoint" 1
configure_auriga "alter system reset checkpoint_timeout" "alter system reset max_wal_size"
measure_bytes "auriga's own checkpoints" 4
measure_bytes "after a checkpoint" 1 checkpoint
