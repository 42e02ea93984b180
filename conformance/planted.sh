#!/usr/bin/env bash
# Proves that the trace check can fail on the real cluster: a build of `auriga` with a planted defect is run under faults
# with traces, and must be refused by the rule that the defect breaks; the same build without a defect must be accepted.
#
#   planted.sh [DEFECT:RULE:COMMAND …]      such as 'no-fence:R-FENCE-1:demo --tour'
#
# Needs what the demo needs. The build goes to target/planted and is never installed. Settings by environment:
# NETWORK (127.0.77), PORT (5432).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --profile fast --quiet -p auriga --features planted-defects --target-dir target/planted
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# run DEFECT COMMAND…: its output goes to a file. No defect: an empty name.
run() {
  local defect=$1; shift
  env ${defect:+AURIGA_PLANTED_DEFECT="$defect"} timeout 240 target/planted/fast/auriga "$@" --trace \
    --network "${NETWORK:-127.0.77}" --port "${PORT:-5432}" > "$scratch/out" 2>&1
}

[ $# -gt 0 ] || set -- \
  'write-quorum-three:R-QUORUM-1:rehearse storage-kills --rounds 3'

if run '' rehearse mixed --rounds 4 && grep -q '^every rule held' "$scratch/out"; then
  echo "no defect: accepted ($(grep -o '^[0-9]* lines of [0-9]* processes' "$scratch/out"))"
else
  echo "no defect: NOT ACCEPTED"; tail -n 20 "$scratch/out"; failed=1
fi
for row in "$@"; do
  IFS=: read -r defect rule command <<< "$row"
  begun=$SECONDS status=0
  # shellcheck disable=SC2086 # a command's words
  run "$defect" $command || status=$?
  if [ "$status" != 0 ] && found=$(grep -m 1 "^BROKEN $rule:" "$scratch/out"); then
    echo "$defect ($command): refused after $((SECONDS - begun)) s: ${found#BROKEN }"
  else
    echo "$defect ($command): NOT REFUSED by $rule, exit code $status"; grep -m 3 '^BROKEN' "$scratch/out" || tail -n 8 "$scratch/out"; failed=1
  fi
done
exit $failed
