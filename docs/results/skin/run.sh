#!/usr/bin/env bash
# The table of docs/results/skin: run.sh DATA [OUT] [PARTS], DATA being the folder of ISIC 2017 at 256 x 256 pixels.
set -euo pipefail
data=$1 out=${2:-runs/results-skin} parts=${3:-2}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
[ -f "$out/list.csv" ] || python -m clustercl.benchmarks.result_lists skin "$data" "$out/list.csv"
export OMP_NUM_THREADS=1 # one core for each part

compare() {
  for part in $(seq "$parts"); do
    python -m clustercl compare --task skin --preset tiny --config "$here/config.toml" --device cpu \
      --list "$out/list.csv" --groups "$data/ISIC-2017_Training_Classes.csv" --label-fractions 0.01,0.05,0.2 \
      --out "$out" --shard "$part/$parts" "$@" > "$out/part$part.log" 2>&1 &
  done
  wait
}
main=scratch,simclr,random-class,pseudo-class,pseudo-class-tree
compare --methods "$main" --seeds 0,1,2
compare --methods "$main,pseudo-class-attract,oracle-class,g-simclr,byol,mae,autoencoder" --seeds 0
