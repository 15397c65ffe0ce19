// Distances between the rows of two matrices, in float64 with the same bits on every path.
//
//   sqeuclidean  s(x, y) = sum_f (x_f - y_f)^2
//   euclidean    sqrt(s(x, y))
//   cosine       1 - <x, y> / (|x| |y|), computed as s(x/|x|, y/|y|) / 2, which is the same number without the
//                cancellation; a row of norm 0 has no direction and is reported
// No gradient. Stored beside the result: the rows in float64 (n * padded doubles), nothing else.
// Shapes: rows (n, padded) with padded = padded_width(d), zeros behind feature d; out (n, m) or condensed, n (n - 1) / 2.
// Threads take blocks of rows; a block of columns stays in the first-level cache while a few rows in registers pass over it.
// Numerics and determinism: distance_tile.h. A result depends on its two rows alone. Values beyond 1e154 overflow to inf
// when squared, as in SciPy; linkage() scales first.
// Source: the definitions of scipy.spatial.distance.
#pragma once

#include <cstdint>

#include "dispatch.h"
#include "parallel.h"

namespace clustercl {

enum class Metric { sqeuclidean, euclidean, cosine };

// `static`: an inline function of a header would be one symbol shared by the instruction sets.
// Doubles per row: d rounded up to a multiple of 8.
static inline std::int64_t padded_width(std::int64_t d) { return (d + 7) / 8 * 8; }

// Copies x (n, d) with strides in elements into rows (n, padded), zeros behind feature d.
template <class T>
void pad_rows(const T* x, std::int64_t n, std::int64_t d, std::int64_t row_stride, std::int64_t column_stride,
              double* rows) {
  const std::int64_t padded = padded_width(d);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t f = 0; f < padded; ++f)
      rows[i * padded + f] = f < d ? static_cast<double>(x[i * row_stride + f * column_stride]) : 0.0;
}

CLUSTERCL_PER_ISA(
    // Divides each row by its norm, in place; the first row whose norm is 0, or -1.
    std::int64_t normalize_rows(double* rows, std::int64_t n, std::int64_t padded);
    // out[(i - begin) * m + j] for the rows begin <= i < end of x against all m rows of y.
    void distance_rows(const double* x, std::int64_t begin, std::int64_t end, const double* y, std::int64_t m,
                       std::int64_t padded, Metric metric, double* out);)

// Entry (i, j), i < j, of a condensed matrix of n rows is at condensed_offset(i, n) + j.
static inline std::int64_t condensed_offset(std::int64_t i, std::int64_t n) { return i * (2 * n - i - 1) / 2 - i - 1; }

// Normalises rows for the metrics that want it; the first row of norm 0 under `cosine`, else -1.
std::int64_t prepare_rows(double* rows, std::int64_t n, std::int64_t padded, Metric metric);

// out (n, m) of prepared rows.
void pairwise_distances(const double* x, std::int64_t n, const double* y, std::int64_t m, std::int64_t padded,
                        Metric metric, const Parallel& parallel, double* out);

}  // namespace clustercl
