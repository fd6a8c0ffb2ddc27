#!/bin/sh
# Starts the daemon of a build folder and runs local_hop against it: tests/bench/local_hop.sh BUILD
set -eu
folder=$(mktemp -d)
: >"$folder/log"
"$1/flashcored" --engine cpu --listen "ipc://$folder/s" 2>"$folder/log" &
daemon=$!
trap 'kill $daemon; wait $daemon || true; rm -rf "$folder"' EXIT
until grep -q event=ready "$folder/log"; do kill -0 $daemon; done
"$1/bench/local_hop" "$folder/s.local"
