#!/usr/bin/env bash
# Proves that the trace check can fail on the real cluster: a build of `auriga` with a planted defect runs under faults and
# writes traces; a checker that is built without any must refuse them by the rule that the defect breaks, and accept those
# of the same build without a defect.
#
#   planted.sh [DEFECT:RULE:COMMAND …]      such as 'no-fence:R-FENCE-1:rehearse takeovers --rounds 2 --trace'
#
# With `--trace` it is the observer that refuses; with `--trace-inputs` also the replay of all inputs through the state
# machines. Needs what the demo needs, and a few GB in $TMPDIR. The build goes to target/planted and is never installed.
# Settings by environment: NETWORK (127.0.77), PORT (5432).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --profile fast --quiet -p auriga --features planted-defects --target-dir target/planted
cargo build --profile fast --quiet -p auriga-conformance
scratch=$(mktemp -d)
chmod 711 "$scratch" # PostgreSQL's user must get through.
failed=0 child=
trap 'if [ -n "$child" ]; then kill "$child"; wait "$child" || true; fi; rm -rf "$scratch"' EXIT
trap 'exit 143' INT TERM HUP

# run DEFECT COMMAND…: leaves `ran`, `judged` (exit codes), and the verdict in a file. No defect: an empty name.
run() {
  local defect=$1; shift
  ran=0 judged=0
  env ${defect:+AURIGA_PLANTED_DEFECT="$defect"} timeout 240 target/planted/fast/auriga "$@" --keep "$scratch/demo" \
    --network "${NETWORK:-127.0.77}" --port "${PORT:-5432}" > "$scratch/out" 2>&1 &
  child=$!
  wait "$child" || ran=$?
  child=
  target/fast/auriga-conformance trace --complete "$scratch/demo/traces" > "$scratch/verdict" 2> "$scratch/errors" || judged=$?
  rm -rf "$scratch/demo"
}

# Reads that meet newer records need caches that hold little; VCL and VDL part where an MTR spans two groups.
small='--shared-buffers 1MB --cache-mib 1'
[ $# -gt 0 ] || set -- \
  'write-quorum-three:R-QUORUM-1:rehearse storage-kills --rounds 3 --trace' \
  'no-fence:R-FENCE-1:rehearse takeovers --rounds 2 --trace' \
  'truncation-not-applied:R-TRUNCATE-1:rehearse lost-tails --rounds 8 --trace' \
  'vdl-not-at-cpl:R-VDL-2:rehearse instance-kills --rounds 1 --trace --groups 2' \
  "read-ignores-read-point:R-READ-3:rehearse stalls --rounds 15 --trace --groups 2 $small" \
  'ack-before-durable:R-WRITE-2:rehearse instance-kills --rounds 1 --trace-inputs' \
  'collect-above-pgmrpl:R-COLLECT-1:rehearse storage-kills --rounds 3 --trace-inputs' \
  'no-allocation-limit:R-ALLOC-1:rehearse instance-kills --rounds 2 --trace-inputs --allocation-limit 160' \
  "read-point-above-vdl:R-READ-4:rehearse instance-kills --rounds 4 --trace-inputs --groups 2 $small"

for command in 'mixed --rounds 4' 'takeovers --rounds 2' 'lost-tails --rounds 2' "stalls --rounds 3 --groups 2 $small"; do
  # shellcheck disable=SC2086 # a command's words
  run '' rehearse $command --trace-inputs
  if [ "$ran$judged" = 00 ] && grep -q ': all alike$' "$scratch/verdict"; then
    echo "no defect ($command): accepted ($(grep -o '^[0-9]* lines of [0-9]* processes' "$scratch/verdict");$(grep -o 'replay: .*' "$scratch/verdict" | cut -d: -f2))"
  else
    echo "no defect ($command): NOT ACCEPTED"; tail -n 12 "$scratch/out" "$scratch/verdict" "$scratch/errors"; failed=1
  fi
done
for row in "$@"; do
  IFS=: read -r defect rule command <<< "$row"
  begun=$SECONDS
  # shellcheck disable=SC2086 # a command's words
  run "$defect" $command
  if [ "$judged" = 1 ] && found=$(grep -m 1 "^BROKEN $rule:" "$scratch/verdict"); then
    echo "$defect ($command): refused after $((SECONDS - begun)) s: ${found#BROKEN }"
  else
    echo "$defect ($command): NOT REFUSED by $rule, exit codes $ran and $judged"
    grep -m 3 '^BROKEN' "$scratch/verdict" || tail -n 8 "$scratch/out" "$scratch/verdict" "$scratch/errors"; failed=1
  fi
done
exit $failed
