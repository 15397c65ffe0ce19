// The edges of a minimum spanning tree of the rows, which single linkage is read off (linkage_single.cpp), by two algorithms.
// Edges come in any order; where lengths are equal, there are several such trees, and any of them does.
#pragma once

#include <cstdint>
#include <vector>

#include "linkage_parts.h"

namespace clustercl {

enum class Spanned { finished, stopped, unfit };

// By rounds behind the screen (linkage_boruvka.cpp). unfit: not for these rows, and edges are what they were.
Spanned span_by_rounds(const double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel,
                       const Monitor& monitor, std::vector<Edge>& edges);
// By one row after the other, for any rows (linkage_prim.cpp); false when stopped.
bool span_by_rows(const double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel, const Monitor& monitor,
                  std::vector<Edge>& edges);

}  // namespace clustercl
