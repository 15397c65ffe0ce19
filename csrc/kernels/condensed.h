// All distances of the rows of one matrix, condensed: what average and complete linkage begin with.
//
//   s(x, y) = |x|^2 + |y|^2 - 2 <x, y>   where that is at least kNearShare of |x|^2 + |y|^2
//           = sum_f (x_f - y_f)^2         for nearer rows, in which the first would cancel
//   euclidean sqrt(s), sqeuclidean s, cosine s / 2 of normalised rows; times `unit`
// Shapes: rows (n, padded) as in pairwise.h; entries n (n - 1) / 2, that of (i, j), i < j, at condensed_offset(i, n) + j.
// Memory: the rows twice more while it runs. Threads take blocks of kBlock rows.
// Numerics: float64; of d features s is off by less than (d + 3) 2^-45 of itself, and exact where rows are integers whose
// squares add up to less than 2^53.
// Determinism: an entry depends on its two rows alone: the products add up feature by feature (tile.h).
// Source: the expansion of the square; scikit-learn's euclidean_distances has it without the second line.
#pragma once

#include <cstdint>

#include "compact.h"
#include "dispatch.h"
#include "linkage.h"
#include "pairwise.h"
#include "parallel.h"

namespace clustercl {

constexpr double kNearShare = 0x1p-8;

// The rows as tile.h reads them (blocks.h), beside the rows themselves.
struct CondensedRows {
  std::int64_t n, padded;
  const double *rows, *blocks, *panels, *norm;  // norm: |x|^2, filled up to whole blocks with 0
};

// T is double or Compact. False when stopped.
template <class T>
bool fill_condensed(const double* rows, std::int64_t n, std::int64_t padded, Metric metric, double unit,
                    const Parallel& parallel, const Monitor& monitor, T* entries);

CLUSTERCL_PER_ISA(
    // The entries of block i with block j >= i. scratch: kBlock * kBlock doubles, aligned to 64 bytes.
    template <class T>
    void condensed_tile(const CondensedRows& x, Metric metric, double unit, std::int64_t i, std::int64_t j, double* scratch,
                        T* entries);)

}  // namespace clustercl
