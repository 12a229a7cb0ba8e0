#!/bin/sh
# What `make demo` runs: hw1's own commands over the example images, and two pictures of the results.
set -eu
cd "$(dirname "$0")/.."
out=build/demo

run() { printf '\n$ %s\n' "$*"; "$@"; }

rm -rf "$out"
mkdir -p "$out"

echo 'Photos through Ray, started on this machine for the job. A batch has 64 images else: 26 need 32.'
run hw1 batch classify examples/photos "$out/photos.csv" --columns confidence --batch-size 32
run hw1 jobs verify "$out/photos.csv"
run python examples/sheet.py photos "$out/photos.csv" "$out/photos.jpg"

printf '\n%s\n' 'A few tiles in this process: --engine inline saves the start of Ray.'
run hw1 batch segment examples/tiles "$out/masks" --overlay "$out/overlays" --engine inline
run python examples/sheet.py tiles "$out/overlays" "$out/tiles.jpg"

printf '\nSee %s/photos.jpg and tiles.jpg; beside them photos.csv, masks/, overlays/.\n' "$out"
