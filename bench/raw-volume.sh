#!/bin/bash
# The volume without PostgreSQL, against three etcd members, in one session on one machine.
#
# Both keep 256-byte values durably (each fdatasyncs before it acknowledges), both over loopback, closed loops. Rounds
# alternate, so that whatever else the machine does meets both alike. Prints each figure, then the ratio of the medians
# of the rounds. What differs: etcd keeps three copies and orders them by Raft, the volume six of which four must answer.
#
#   ROUNDS=3 SECONDS_EACH=5 CLIENTS="1 32" DIR=/tmp bench/raw-volume.sh
#
# Installs etcd, its client and a Go compiler (for the load, with etcd's own client library) with apt when missing.
set -euo pipefail
cd "$(dirname "$0")/.."
ROUNDS=${ROUNDS:-3} EACH=${SECONDS_EACH:-5} CLIENTS=${CLIENTS:-1 32} DIR=${DIR:-${TMPDIR:-/tmp}}

./install.sh etcd=etcd-server etcdctl=etcd-client go=golang-go \
  /usr/share/gocode/src/go.etcd.io/etcd/clientv3=golang-etcd-server-dev
PATH="$PATH:$HOME/.cargo/bin"

work=$(mktemp -d "$DIR/raw-volume.XXXXXX")
members=()
finish() {
  [ ${#members[@]} -eq 0 ] || kill -9 "${members[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

cargo build --quiet --release --package auriga-storage --example raw_volume
volume=${CARGO_TARGET_DIR:-target}/release/examples/raw_volume
GOPATH=/usr/share/gocode GO111MODULE=off GOCACHE=$work/go go build -o "$work/etcd-load" bench/etcd-load.go

# Three members on free ports; answers the leader's client address in $leader.
start_etcd() {
  local port=$((20000 + RANDOM % 10000)) cluster='' endpoints='' i
  for i in 0 1 2; do
    cluster+="m$i=http://127.0.0.1:$((port + 10 + i)),"
    endpoints+="http://127.0.0.1:$((port + i)),"
  done
  for i in 0 1 2; do
    etcd --name m$i --data-dir "$work/m$i" --initial-cluster "${cluster%,}" --initial-cluster-state new \
      --listen-client-urls http://127.0.0.1:$((port + i)) --advertise-client-urls http://127.0.0.1:$((port + i)) \
      --listen-peer-urls http://127.0.0.1:$((port + 10 + i)) \
      --initial-advertise-peer-urls http://127.0.0.1:$((port + 10 + i)) \
      --logger zap --log-outputs "$work/m$i.log" &
    members+=($!)
  done
  export ETCDCTL_API=3
  for i in $(seq 50); do
    leader=$(etcdctl --endpoints "${endpoints%,}" --command-timeout 2s endpoint status 2>/dev/null |
      awk -F', ' '$5 == "true" { print $1 }') || true
    [ -z "$leader" ] || return 0
    sleep 0.2
  done
  echo 'etcd did not start' >&2
  tail -n 3 "$work"/m*.log >&2
  exit 1
}

# Waits (a minute at most) until other work leaves the processors alone: on a busy machine every wake-up waits for a
# scheduler's slice, and then figures say more about that than about either system.
quiet() {
  local end=$((SECONDS + ${QUIET_WAIT:-60})) busy before
  busy() { awk '/^cpu /{ print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }
  while [ $SECONDS -lt $end ]; do
    before=$(busy)
    sleep 1
    [ $(($(busy) - before)) -ge 20 ] || return 0
  done
}

echo "# raw-volume  $(nproc) cores  $(uname -r)  $ROUNDS rounds of $EACH s"
start_etcd
for round in $(seq "$ROUNDS"); do
  quiet
  kill -STOP "${members[@]}" # An idle etcd still ticks; the volume gets the machine to itself, as etcd does.
  "$volume" --seconds "$EACH" --writers "${CLIENTS// /,}" --dir "$work" | tee "$work/volume.$round" | sed "s/^/round$round./"
  kill -CONT "${members[@]}"
  sleep 2
  for clients in $CLIENTS; do
    quiet
    read -r rate p50 p99 < <("$work/etcd-load" "$leader" "$clients" "$EACH" 256)
    printf 'etcd.c%s.rate: %s puts/s\netcd.c%s.p50: %s ms\netcd.c%s.p99: %s ms\n' \
      "$clients" "$rate" "$clients" "$p50" "$clients" "$p99" | tee -a "$work/etcd.$round" | sed "s/^/round$round./"
  done
done

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
figure() { sed -n "s/^$1: \([0-9.]*\).*/\1/p" "${@:2}" | median; }
for clients in $CLIENTS; do
  ours=$(figure "volume.c$clients.rate" "$work"/volume.*) theirs=$(figure "etcd.c$clients.rate" "$work"/etcd.*)
  echo "volume.c$clients.rate: $ours commits/s"
  echo "etcd.c$clients.rate: $theirs puts/s"
  awk -v c="$clients" -v a="$ours" -v b="$theirs" 'BEGIN { printf "ratio.c%s.rate: %.2f x etcd\n", c, a / b }'
  for part in cpu_writer cpu_storage; do
    echo "volume.c$clients.$part: $(figure "volume.c$clients.$part" "$work"/volume.*) us/commit"
  done
  echo "volume.c$clients.p50_over_floor: $(figure "volume.c$clients.p50_over_floor" "$work"/volume.*) x (fdatasync + round trip)"
done
