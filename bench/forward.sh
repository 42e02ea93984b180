#!/bin/bash
# What a forwarding endpoint adds to a read that it has the reader do: one client that reads by primary key with a prepared
# statement, by turns at a standby of plain PostgreSQL itself and through the gateway, which run on this machine.
#
# Prints the median, p95 and p99 of each.
set -eu
cd "$(dirname "$0")/.."
cargo test --release --quiet -p auriga-gateway --test forwarding what_it_adds -- --ignored --nocapture
