#!/bin/bash
# pgbench against three servers in one interleaved session, on this machine:
#   auriga   the demo: PostgreSQL on six copies, four of which have synced before a commit is acknowledged
#   quorum   PostgreSQL with six streaming standbys, synchronous_standby_names = 'ANY 4 (...)': what one would run instead
#   single   one PostgreSQL without any copy
# For each load and number of clients the three run one after another, so that a busy machine slows all of them alike.
# Prints transactions per second, ratios, and bytes sent to the copies per transaction, steady and after a checkpoint.
#
# Needs root. Settings by environment: SECONDS_PER_CELL (10), SCALE (10), CLIENTS ("1 8 32"), BUFFERS (256MB).
set -eu
cd "$(dirname "$0")/.."
SECONDS_PER_CELL=${SECONDS_PER_CELL:-10} SCALE=${SCALE:-10} CLIENTS=${CLIENTS:-1 8 32} BUFFERS=${BUFFERS:-256MB}
BIN=$(dirname "$(readlink -f "$(command -v pg_ctl || ls /usr/lib/postgresql/*/bin/pg_ctl | tail -1)")")
AURIGA=${AURIGA:-./target/release/auriga}
SINGLE=25700 QUORUM=25701
WORK=$(mktemp -d) NETWORK=127.0.77 DEMO=
chmod 711 "$WORK"
chown postgres: "$WORK"

as_postgres() { (cd "$WORK" && exec setpriv --reuid=postgres --regid=postgres --init-groups env HOME="$WORK" "$@"); }
end() {
    [ -z "$DEMO" ] || { kill -INT "$DEMO" && wait "$DEMO"; } 2>/dev/null || true
    for pid in "$WORK"/*/postmaster.pid; do [ ! -f "$pid" ] || kill -QUIT "$(head -1 "$pid")" || true; done
    sleep 1
    rm -rf "$WORK"
}
trap end EXIT

host() { case $1 in auriga) echo "-h $NETWORK.11 -p 5432" ;; quorum) echo "-h 127.0.0.1 -p $QUORUM" ;; single) echo "-h 127.0.0.1 -p $SINGLE" ;; esac; }
sql() { local to=$1; shift; # shellcheck disable=SC2046
    "$BIN/psql" $(host "$to") -XqAt -U postgres -d postgres -c "$*"; }

settings() { # NAME PORT
    cat >>"$WORK/$1/postgresql.conf" <<CONF
port = $2
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = $BUFFERS
max_wal_senders = 12
checkpoint_timeout = 30min
max_wal_size = 16GB
CONF
}
new_server() { # NAME PORT
    as_postgres "$BIN/initdb" -D "$WORK/$1" -A trust -U postgres --locale=C --encoding=UTF8 --no-sync >/dev/null
    settings "$1" "$2"
    as_postgres "$BIN/pg_ctl" -D "$WORK/$1" -l "$WORK/$1.log" -w start >/dev/null
}
new_standby() { # NUMBER
    as_postgres "$BIN/pg_basebackup" -h 127.0.0.1 -p "$QUORUM" -U postgres -D "$WORK/s$1" -c fast --no-sync
    settings "s$1" $((QUORUM + $1))
    echo "primary_conninfo = 'host=127.0.0.1 port=$QUORUM user=postgres application_name=s$1'" >>"$WORK/s$1/postgresql.conf"
    as_postgres touch "$WORK/s$1/standby.signal"
    as_postgres "$BIN/pg_ctl" -D "$WORK/s$1" -l "$WORK/s$1.log" -w start >/dev/null
}
# Bytes sent so far to all copies.
sent() {
    case $1 in
    auriga) "$AURIGA" status --json --dir "$WORK/demo" | grep -o '"log_bytes_sent":[0-9]*' | head -1 | cut -d: -f2 ;;
    quorum) ss -Htin state established "( sport = :$QUORUM )" | grep -o 'bytes_sent:[0-9]*' | awk -F: '{n += $2} END {print n + 0}' ;;
    esac
}
cell() { # SERVER CLIENTS ARGUMENTS...: prints transactions per second; leaves their number in $WORK/transactions
    local server=$1 clients=$2; shift 2
    # shellcheck disable=SC2046
    "$BIN/pgbench" $(host "$server") -n -U postgres -M prepared -c "$clients" -j 2 -T "$SECONDS_PER_CELL" "$@" postgres >"$WORK/out" 2>"$WORK/err" ||
        { cat "$WORK/err" >&2; exit 1; }
    awk '/actually processed/ {print $6}' "$WORK/out" | cut -d/ -f1 >"$WORK/transactions"
    awk '/^tps/ {printf "%.0f", $3}' "$WORK/out"
}
row() { # LABEL A Q S
    awk -v l="$1" -v a="$2" -v q="$3" -v s="$4" 'BEGIN {printf "%-28s %9s %9s %9s %12.2f %12.2f\n", l, a, q, s, a / q, a / s}'
}

echo "starting three servers …" >&2
mkdir "$WORK/demo"
"$AURIGA" demo --dir "$WORK/demo" --network "$NETWORK" --shared-buffers "$BUFFERS" >"$WORK/demo.log" 2>&1 &
DEMO=$!
new_server single "$SINGLE"
new_server quorum "$QUORUM"
for n in 1 2 3 4 5 6; do new_standby $n; done
sql quorum "alter system set synchronous_standby_names = 'ANY 4 (s1, s2, s3, s4, s5, s6)'"
sql quorum "select pg_reload_conf()" >/dev/null
for _ in $(seq 100); do sql auriga "select 1" >/dev/null 2>&1 && break; sleep .2; done
for server in auriga quorum single; do # shellcheck disable=SC2046
    "$BIN/pgbench" $(host $server) -i -q -s "$SCALE" -U postgres postgres >/dev/null 2>&1
    cell $server 8 >/dev/null # each page's first change after the load is behind us
done

echo "# $(date -u +%F) $(nproc) cores, $(uname -r), scale $SCALE, $SECONDS_PER_CELL s a cell, load $(cut -d' ' -f1 /proc/loadavg)"
printf '%-28s %9s %9s %9s %12s %12s\n' "transactions per second" auriga quorum single auriga/quorum auriga/single
for clients in $CLIENTS; do
    row "TPC-B, $clients clients" "$(cell auriga "$clients")" "$(cell quorum "$clients")" "$(cell single "$clients")"
done
for clients in $CLIENTS; do
    row "select-only, $clients clients" "$(cell auriga "$clients" -S)" "$(cell quorum "$clients" -S)" "$(cell single "$clients" -S)"
done

echo
printf '%-28s %9s %9s %12s\n' "bytes sent per transaction" auriga quorum auriga/quorum
for when in steady "after a checkpoint"; do
    for server in auriga quorum; do
        [ "$when" = steady ] || sql $server checkpoint
        before=$(sent $server)
        cell $server 8 >/dev/null
        sleep 1
        eval "$server=$(( ($(sent $server) - before) / $(cat "$WORK/transactions") ))"
    done
    # shellcheck disable=SC2154 # set by eval
    awk -v l="$when" -v a="$auriga" -v q="$quorum" 'BEGIN {printf "%-28s %9d %9d %12.2f\n", l, a, q, a / q}'
done
