#!/usr/bin/env bash
# The table of docs/results/demo-ct: run.sh [OUT] [PARTS]. The data are synthetic and written first.
set -euo pipefail
out=${1:-runs/results-demo-ct} parts=${2:-2}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
[ -d "$out/data" ] || python -m clustercl data demo "$out/data" --task heart --cases 24
[ -f "$out/list.csv" ] || python -m clustercl.benchmarks.result_lists demo-ct "$out/data" "$out/list.csv"
export OMP_NUM_THREADS=1 # one core for each part

for part in $(seq "$parts"); do
  python -m clustercl compare --task heart --preset tiny --config "$here/config.toml" --device cpu \
    --list "$out/list.csv" --groups "$out/data/kinds.csv" --label-fractions 0.143,0.5 \
    --methods scratch,simclr,pseudo-class,pseudo-class-tree,oracle-class,mae --seeds 0 \
    --out "$out" --shard "$part/$parts" > "$out/part$part.log" 2>&1 &
done
wait
