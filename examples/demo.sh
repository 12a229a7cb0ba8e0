#!/bin/sh
# What `make demo` runs: hw1's own commands over the example images, through Ray on this machine.
set -eu
cd "$(dirname "$0")/.."
out=build/demo

say() { printf '\n$ %s\n' "$*"; }
run() { say "$@"; "$@"; }

rm -rf "$out"
mkdir -p "$out"

echo 'Each "hw1 batch" starts Ray on this machine (most of its time here), and stops it again.'

run hw1 batch classify examples/photos "$out/photos.csv" --columns confidence
python examples/table.py "$out/photos.csv"

# The truth is known for some of the photos alone; evaluate wants both sides to be the same.
# Without the confidence: seven photos are too few to say how well it is calibrated.
awk -F, 'NR == FNR {known[$1]; next} $1 in known {print $1 "," $2}' \
    examples/photos-truth.csv "$out/photos.csv" > "$out/photos-labelled.csv"
run hw1 evaluate classify "$out/photos-labelled.csv" examples/photos-truth.csv \
    --names examples/classes.csv

run hw1 batch segment examples/tiles "$out/masks" --overlay "$out/overlays"
run hw1 jobs verify "$out/masks"
run hw1 plot masks examples/tiles "$out/tiles.png" --checkpoint weights/fcn8s.safetensors

printf '\nIn %s: photos.csv; masks/; overlays/, tiles under their masks; tiles.png, all masks.\n' "$out"
