# What benchmarks with PostgreSQL share: a working directory, servers in it, and their end. To be sourced.
#
# Sets BIN (PostgreSQL's programs), AURIGA, WORK and ADDRESS (how to reach each server, by name). Nothing outlives the
# script: at its end everything is stopped; if it is killed, the kernel ends the servers. WORK is removed when the last of
# them is gone.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./install.sh python3=python3 ss=iproute2
[ -n "${AURIGA:-}" ] || PATH="$PATH:$HOME/.cargo/bin" cargo build --release --quiet -p auriga
BIN=$(dirname "$(readlink -f "$(command -v pg_ctl || ls /usr/lib/postgresql/*/bin/pg_ctl | tail -1)")")
AURIGA=${AURIGA:-./target/release/auriga}
BUFFERS=${BUFFERS:-256MB} SCALE=${SCALE:-10}
WORK=$(mktemp -d)
chmod 711 "$WORK"
chown postgres: "$WORK"
declare -A ADDRESS=() PID=()
# Every process of the script inherits this pipe, so its reader waits for the last of them.
exec {ALIVE}> >(trap '' INT TERM HUP; cat >/dev/null; rm -rf "$WORK")

end() {
    local server
    for server in "${!PID[@]}"; do
        if [ "$server" = auriga ]; then kill -INT "${PID[$server]}"; else kill -QUIT "${PID[$server]}"; fi 2>/dev/null || true
    done
    for server in "${!PID[@]}"; do wait "${PID[$server]}" 2>/dev/null || true; done
}
trap end EXIT

AS_POSTGRES=(setpriv --reuid=postgres --regid=postgres --init-groups env HOME="$WORK")
as_postgres() { (cd "$WORK" && exec "${AS_POSTGRES[@]}" "$@"); }

sql() { # SERVER STATEMENT...
    local to=$1; shift
    # shellcheck disable=SC2086 # options
    "$BIN/psql" ${ADDRESS[$to]} -XqAt -U postgres -d postgres -c "$*"
}
# Looks ten times a second: each look starts two processes, which on few processors slow down what is waited for.
until_ready() { # SERVER
    # shellcheck disable=SC2086 # options
    until "$BIN/pg_isready" ${ADDRESS[$1]} -U postgres -q; do
        kill -0 "${PID[$1]}" 2>/dev/null || { echo "$1 has ended:" >&2; tail -n 5 "$WORK/$1.log" >&2; exit 1; }
        sleep .1
    done
}

# The demo: six storage processes and an instance.
start_auriga() { # NETWORK OPTIONS...
    local network=$1; shift
    mkdir "$WORK/demo"
    setpriv --pdeathsig INT "$AURIGA" demo --readers 0 --dir "$WORK/demo" --network "$network" --shared-buffers "$BUFFERS" "$@" >"$WORK/auriga.log" 2>&1 &
    PID[auriga]=$!
    ADDRESS[auriga]="-h $network.11 -p 5432"
}

# A PostgreSQL of its own in $WORK/NAME, with `settings` in its configuration. Makes it where there is none.
start_server() { # NAME PORT [SETTING...]
    local name=$1 port=$2 all; shift 2
    if [ ! -d "$WORK/$name" ]; then
        as_postgres "$BIN/initdb" -D "$WORK/$name" -A trust -U postgres --locale=C --encoding=UTF8 --no-sync >/dev/null
    fi
    all=("port = $port" "listen_addresses = '127.0.0.1'" "unix_socket_directories = ''" "shared_buffers = $BUFFERS" "$@")
    printf '%s\n' "${all[@]}" >>"$WORK/$name/postgresql.conf"
    run_server "$name"
    ADDRESS[$name]="-h 127.0.0.1 -p $port"
}
# A streaming standby of the server PRIMARY, with the same settings.
start_standby() { # NAME PORT PRIMARY
    local to; read -ra to <<<"${ADDRESS[$3]}"
    as_postgres "$BIN/pg_basebackup" "${to[@]}" -U postgres -D "$WORK/$1" -c fast --no-sync
    as_postgres touch "$WORK/$1/standby.signal"
    start_server "$1" "$2" "primary_conninfo = 'host=${to[1]} port=${to[3]} user=postgres application_name=$1'"
}
# In this shell and no subshell of it: its end is the servers'.
run_server() { # NAME
    cd "$WORK"
    # Last, as the kernel forgets this signal when a process changes its user.
    "${AS_POSTGRES[@]}" setpriv --pdeathsig QUIT "$BIN/postgres" -D "$WORK/$1" >>"$WORK/$1.log" 2>&1 &
    PID[$1]=$!
    cd "$OLDPWD"
}

load() { # SERVER: pgbench's tables
    # shellcheck disable=SC2086 # options
    "$BIN/pgbench" ${ADDRESS[$1]} -i -q -s "$SCALE" -U postgres postgres >"$WORK/load.log" 2>&1 || { cat "$WORK/load.log" >&2; exit 1; }
}
conditions() { echo "# $(date -u +%F) $(nproc) cores, $(uname -r), scale $SCALE, shared_buffers $BUFFERS, load $(cut -d' ' -f1 /proc/loadavg)"; }
