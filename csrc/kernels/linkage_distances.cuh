// The distances that average and complete linkage begin with on CUDA: a square matrix with the bits of condensed.h's formulas.
//
//   s(x, y) = |x|^2 + |y|^2 - 2 <x, y>, and where that is less than kNearShare of |x|^2 + |y|^2, sum_f (x_f - y_f)^2
//
// Shapes: rows (n, padded); norm (n,), |x|^2. Stored beside the matrix: norm alone.
// Threads: 64 rows times 64 by four warps (tile.cuh, Fma); a tile is written along its rows and, out of shared memory, along its
// columns. Near rows are few in most tiles: a warp measures four of a row at a time.
// Numerics: float64, a product adds up feature by feature with one fma each, as in condensed_cpu.cpp. Determinism: an entry
// depends on its two rows alone. Source: condensed.h.
#pragma once

#include "condensed.h"
#include "linkage_dense.cuh"
#include "tile.cuh"

namespace clustercl {

constexpr int kFillStride = kTile + 1;  // so that the entries of a column lie in different banks
constexpr int kFillShared = kTile * kFillStride;  // doubles
static_assert(kFillShared >= 2 * kTile * Fma::kStride);

__device__ inline void fill_norms(const double* rows, std::int64_t n, std::int64_t padded, double* norm) {
  for (std::int64_t i = first_of_launch(); i < n; i += threads_of_launch()) {
    double sum = 0;
    for (std::int64_t f = 0; f < padded; ++f) sum = plus(sum, times(rows[i * padded + f], rows[i * padded + f]));
    norm[i] = sum;
  }
}

// s of the 64 rows from `row` and those from `column`, as tile_product leaves it; behind the last row and feature are zeros.
__device__ inline void product_tile(double (&s)[kGroups][4], const double* rows, std::int64_t n, std::int64_t padded,
                                    std::int64_t row, std::int64_t column, double* shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  double *const a = shared, *const b = shared + kTile * Fma::kStride;
#pragma unroll
  for (int k = 0; k < kGroups * 4; ++k) s[k / 4][k % 4] = 0;
  for (std::int64_t from = 0; from < padded; from += Fma::kChunk) {
    __syncthreads();
    for (int at = threadIdx.x; at < kTile * Fma::kChunk; at += kTileThreads) {
      const int k = at / Fma::kChunk, f = at % Fma::kChunk;
      const bool inside = from + f < padded;
      a[k * Fma::kStride + f] = inside && row + k < n ? rows[(row + k) * padded + from + f] : 0.0;
      b[k * Fma::kStride + f] = inside && column + k < n ? rows[(column + k) * padded + from + f] : 0.0;
    }
    __syncthreads();
    Fma::product(s, a + 16 * warp * Fma::kStride, b, lane / 4, lane % 4);
  }
}

// A warp: the square of rows i and j, j the lane's own, -1 for none. product: theirs.
__device__ inline double square_of(const double* rows, const double* norm, std::int64_t padded, std::int64_t i, std::int32_t j,
                                   double product) {
  constexpr int kAtOnce = kWarp / 8;  // of candidate_squares
  const int lane = threadIdx.x % kWarp;
  const double norms = plus(norm[i], j >= 0 ? norm[j] : 0.0);
  double square = fma(product, -2.0, norms);
  const bool near = j >= 0 && square < norms * kNearShare;
  const unsigned all = __ballot_sync(kAllLanes, near);
  for (int first = 0; first < kWarp; first += kAtOnce) {
    if ((all >> first & ((1u << kAtOnce) - 1)) == 0) continue;
    const std::int32_t other = shuffle(near ? j : -1, first + lane % kAtOnce);
    const double measured = shuffle(candidate_squares(rows, padded, i, other, kAtOnce), lane % kAtOnce);
    if (near && lane / kAtOnce == first / kAtOnce) square = measured;
  }
  return square;
}

// By blocks of kTileThreads, with kFillShared doubles.
template <class T>
__device__ void fill_matrix(const Matrix<T>& matrix, const double* rows, const double* norm, std::int64_t padded, Metric metric,
                            double unit) {
  double* const shared = shared_memory<double>();
  const std::int64_t n = matrix.n, tiles = (n + kTile - 1) / kTile;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (std::int64_t task = blockIdx.x; task < tiles * tiles; task += gridDim.x) {
    const std::int64_t row = task / tiles * kTile, column = task % tiles * kTile;
    if (column < row) continue;
    double s[kGroups][4];
    product_tile(s, rows, n, padded, row, column, shared);
    __syncthreads();
    for (int k = 0; k < kGroups * 4; ++k) {
      const int r = 16 * warp + lane / 4 + k % 4 / 2 * 8, c = k / 4 * 8 + lane % 4 * 2 + k % 2;
      shared[r * kFillStride + c] = s[k / 4][k % 4];
    }
    __syncwarp();  // a warp has rows of its own
    for (int r = 16 * warp; r < 16 * warp + 16 && row + r < n; ++r)
      for (int c = lane; c < kTile; c += kWarp) {
        double& entry = shared[r * kFillStride + c];
        const std::int64_t j = column + c;
        const double square = square_of(rows, norm, padded, row + r, j < n ? static_cast<std::int32_t>(j) : -1, entry);
        entry = unit * finished(square, metric);
        if (j < n) pack(entry, matrix.at(row + r, j));
      }
    if (column == row) continue;
    __syncthreads();
    for (int k = threadIdx.x; k < kTile * kTile; k += kTileThreads) {
      const int c = k / kTile, r = k % kTile;
      if (row + r < n && column + c < n) pack(shared[r * kFillStride + c], matrix.at(column + c, row + r));
    }
  }
}

}  // namespace clustercl
