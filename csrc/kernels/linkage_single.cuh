// The state of linkage_single_cuda.cu.
#pragma once

#include "linkage_duplicates_cuda.cuh"

namespace clustercl {

struct SpanningCuda {
  ScanCuda scan;        // of rows, all of size 1, by component
  std::int32_t* all;    // the distinct rows, of which there are `count`, in ascending order
  std::int64_t count;
  std::int32_t* joined;  // components after a round
  std::int32_t *a, *b;  // the edges (count - 1), in any order
  double* square;
  std::int32_t* edges;  // how many there are
  // By component, as it is named: the shortest length, and the edge, its smaller row in the upper half.
  unsigned long long *shortest, *edge;
};

SpanningCuda spanning_in(Parts& parts, const ScanCuda& scan);

// Fills a, b and square; false when stopped.
bool spanning_tree_cuda(const SpanningCuda& state, const Distinct& distinct, const Monitor& monitor, Launches& launches);

}  // namespace clustercl
