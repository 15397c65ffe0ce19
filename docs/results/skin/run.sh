#!/usr/bin/env bash
# The table of docs/results/skin: run.sh DATA [OUT] [PARTS], DATA being the folder of ISIC 2017 at 256 x 256 pixels.
set -euo pipefail
data=$1 out=${2:-runs/results-skin} parts=${3:-2} here=$(dirname "$(realpath "$0")")
source "$here/../parts.sh"
mkdir -p "$out"
[ -f "$out/list.csv" ] || python -m clustercl.benchmarks.result_lists skin "$data" "$out/list.csv"

compare() {
  in_parts "$out" "$parts" --task skin --config "$here/config.toml" --groups "$data/ISIC-2017_Training_Classes.csv" \
    --label-fractions 0.01,0.05,0.2 "$@"
}
main=scratch,simclr,random-class,pseudo-class,pseudo-class-tree
compare --methods "$main" --seeds 0,1,2
compare --methods "$main,pseudo-class-attract,oracle-class,g-simclr,byol,mae,autoencoder" --seeds 0
