#!/usr/bin/env bash
# The table of docs/results/demo-ct: run.sh [OUT] [PARTS]. The data are synthetic and written first.
set -euo pipefail
out=${1:-runs/results-demo-ct} parts=${2:-2} here=$(dirname "$(realpath "$0")")
source "$here/../parts.sh"
[ -d "$out/data" ] || python -m clustercl data demo "$out/data" --task heart --cases 24
[ -f "$out/list.csv" ] || python -m clustercl.benchmarks.result_lists demo-ct "$out/data" "$out/list.csv"
compare() {
  in_parts "$out" "$parts" --task heart --config "$here/config.toml" --groups "$out/data/kinds.csv" \
    --label-fractions 0.143,0.5 "$@"
}
main=scratch,simclr,pseudo-class,pseudo-class-tree,mae
compare --methods "$main" --seeds 0,1,2
compare --methods "$main,oracle-class" --seeds 0
