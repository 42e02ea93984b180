#!/bin/bash
# How long nobody can write when the writer is killed under load and a reader is promoted: from the SIGKILL to the first
# commit that the promoted instance acknowledges. The promotion is asked for at once: finding out that the writer is gone is
# not in it. Beside it, on the same machine and under the same load: a plain PostgreSQL that is killed and started again, and
# a streaming standby that is promoted, which is what Patroni does once it has found out.
#
# WAL (MB since the volume was made): "100 1000". ROUNDS (kills at each): 5. CLIENTS: 32. SERVERS: "auriga restart standby".
set -euo pipefail
. "$(dirname "$0")/lib.sh"
WAL=${WAL:-100 1000} ROUNDS=${ROUNDS:-5} CLIENTS=${CLIENTS:-32} SERVERS=${SERVERS:-auriga restart standby}
NETWORK=${NETWORK:-127.0.89} PORT=${PORT:-25700}
conditions
echo "# $CLIENTS clients of TPC-B; milliseconds from SIGKILL to the first commit"

now() { date +%s%N; }
millis() { echo $((($2 - $1) / 1000000)); }
quantiles() { sort -n | awk '{ all[NR] = $1 } END { printf "p50 %d  max %d", all[int((NR + 1) / 2)], all[NR] }'; }
# shellcheck disable=SC2086 # options
tpc_b() { # ADDRESS: until it is killed
    setpriv --pdeathsig KILL "$BIN/pgbench" $1 -n -c "$CLIENTS" -j 2 -T 100000 -U postgres postgres >/dev/null 2>&1 &
    LOAD=$!
}
end_load() { kill "$LOAD" 2>/dev/null || true; wait "$LOAD" 2>/dev/null || true; }
# One session that tries again and again is nearer to what a client sees than a process for each try.
first_commit() { # ADDRESS
    # shellcheck disable=SC2086 # options
    until PGCONNECT_TIMEOUT=2 "$BIN/psql" $1 -XqAt -U postgres -d postgres -c "insert into probe values (now())" >/dev/null 2>&1; do sleep .005; done
}
# Writes WAL until the server has written so many MB of it in all.
fill_to() { # ADDRESS MB
    # shellcheck disable=SC2086 # options
    while [ "$("$BIN/psql" $1 -XqAt -U postgres -d postgres -c "select (pg_current_wal_lsn() - '0/0')::bigint / 1000000")" -lt "$2" ]; do
        "$BIN/pgbench" $1 -n -c 4 -j 2 -T 5 -M prepared -f "$WORK/fill.sql" -U postgres postgres >/dev/null 2>&1
    done
}
cat >"$WORK/fill.sql" <<SQL
update pgbench_accounts set abalance = abalance + 1
    where aid = any(array(select 1 + (random() * ($SCALE * 100000 - 1))::int from generate_series(1, 100)))
SQL

auriga() {
    start_auriga "$NETWORK" --readers 1 --unwatched
    until grep -qs "Ctrl-C stops" "$WORK/auriga.log"; do sleep .2; done
    local certificates=$WORK/demo/certificates names=(writer reader-1) at=0 begun to mb
    load auriga
    sql auriga "create table probe (at timestamptz)"
    for mb in $WAL; do
        fill_to "-h $NETWORK.$((11 + at))" "$mb"
        for _ in $(seq "$ROUNDS"); do
            # Until the reader is there, and the load has run for a while.
            until curl -sfk --cert "$certificates/admin.crt" --key "$certificates/admin.key" "https://$NETWORK.$((12 - at)):7401/health" >/dev/null; do sleep .1; done
            tpc_b "-h $NETWORK.$((11 + at))"
            sleep $((5 + RANDOM % 10))
            to=$((12 - at))
            begun=$(now)
            "$AURIGA" inject --dir "$WORK/demo" kill "${names[$at]}" >/dev/null &
            curl -sfk --cert "$certificates/admin.crt" --key "$certificates/admin.key" -X POST "https://$NETWORK.$to:7401/promote" >/dev/null &
            first_commit "-h $NETWORK.$to"
            echo "auriga $mb $(millis "$begun" "$(now)")" | tee -a "$WORK/figures"
            wait $! || true
            end_load
            "$AURIGA" inject --dir "$WORK/demo" restart "${names[$at]}" >/dev/null
            at=$((1 - at))
        done
    done
}

# SIGKILL to a plain server and everything below it, until all of it is gone.
kill_server() { # SERVER
    local pid all
    all="${PID[$1]} $(cat "/proc/${PID[$1]}/task/${PID[$1]}/children")"
    # shellcheck disable=SC2086 # a list of processes
    { kill -9 $all && wait "${PID[$1]}"; } 2>/dev/null || true
    for pid in $all; do while kill -0 "$pid" 2>/dev/null; do sleep .005; done; done
}

restart() {
    local mb begun
    start_server restart "$PORT"
    until_ready restart
    load restart
    sql restart "create table probe (at timestamptz)"
    for mb in $WAL; do
        fill_to "${ADDRESS[restart]}" "$mb"
        for _ in $(seq "$ROUNDS"); do
            tpc_b "${ADDRESS[restart]}"
            sleep $((5 + RANDOM % 10))
            begun=$(now)
            kill_server restart
            run_server restart
            first_commit "${ADDRESS[restart]}"
            echo "restart $mb $(millis "$begun" "$(now)")" | tee -a "$WORK/figures"
            end_load
        done
    done
}

standby() {
    local mb round primary=standby0 next begun
    start_server standby0 "$((PORT + 1))" "wal_keep_size = 2GB"
    until_ready standby0
    load standby0
    sql standby0 "create table probe (at timestamptz)"
    for mb in $WAL; do
        fill_to "${ADDRESS[$primary]}" "$mb"
        for round in $(seq "$ROUNDS"); do
            next=standby$mb.$round
            start_standby "$next" "$((PORT + 2 + RANDOM % 2000))" "$primary"
            until_ready "$next"
            tpc_b "${ADDRESS[$primary]}"
            sleep $((5 + RANDOM % 10))
            begun=$(now)
            kill_server "$primary"
            sql "$next" "select pg_promote(false)" >/dev/null
            first_commit "${ADDRESS[$next]}"
            echo "standby $mb $(millis "$begun" "$(now)")" | tee -a "$WORK/figures"
            end_load
            rm -rf "${WORK:?}/$primary"
            primary=$next
        done
    done
}

for server in $SERVERS; do "$server"; done
for server in $SERVERS; do
    for mb in $WAL; do echo "$server after $mb MB of WAL: $(awk -v s="$server" -v m="$mb" '$1 == s && $2 == m { print $3 }' "$WORK/figures" | quantiles) ms"; done
done
