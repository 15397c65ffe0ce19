#!/usr/bin/env bash
# The table of docs/results/heart: run.sh DATA [OUT] [PARTS], DATA being the folder of ACDC's 80 volumes with list.csv.
set -euo pipefail
data=$1 out=${2:-runs/results-heart} parts=${3:-2} here=$(dirname "$(realpath "$0")")
source "$here/../parts.sh"
mkdir -p "$out"
[ -f "$out/list.csv" ] || python -m clustercl.benchmarks.result_lists heart "$data" "$out/list.csv"
in_parts "$out" "$parts" --task heart --config "$here/config.toml" --labels RV=1,MYO=2,LV=3 \
  --methods scratch,simclr,pseudo-class,pseudo-class-tree,mae --label-fractions 0.0417,0.125,0.5 --seeds 0,1,2
