# Sourced by the run.sh of each table. in_parts OUT PARTS WORD...: `clustercl compare` of OUT/list.csv with these words, in
# so many processes of one core each; fails where one of them does.
export OMP_NUM_THREADS=1

in_parts() {
  local out=$1 parts=$2 part processes=() process failed=0
  shift 2
  for part in $(seq "$parts"); do
    python -m clustercl compare --preset tiny --device cpu --list "$out/list.csv" --out "$out" --shard "$part/$parts" "$@" \
      > "$out/part$part.log" 2>&1 &
    processes+=($!)
  done
  for process in "${processes[@]}"; do wait "$process" || failed=1; done
  return $failed
}
