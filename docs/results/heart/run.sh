#!/usr/bin/env bash
# The table of docs/results/heart: run.sh DATA [OUT] [PARTS], DATA being the folder of ACDC's 80 volumes with list.csv.
set -euo pipefail
data=$1 out=${2:-runs/results-heart} parts=${3:-2}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
[ -f "$out/list.csv" ] || python -m clustercl.benchmarks.result_lists heart "$data" "$out/list.csv"
export OMP_NUM_THREADS=1 # one core for each part

for part in $(seq "$parts"); do
  python -m clustercl compare --task heart --preset tiny --config "$here/config.toml" --device cpu \
    --list "$out/list.csv" --labels RV=1,MYO=2,LV=3 --label-fractions 0.0417,0.125,0.5 \
    --methods scratch,simclr,pseudo-class,pseudo-class-tree,mae --seeds 0,1,2 \
    --out "$out" --shard "$part/$parts" > "$out/part$part.log" 2>&1 &
done
wait
