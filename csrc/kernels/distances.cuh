// Squared distances of rows in float64 on CUDA, with the very bits of distance_tile.h: the engine under pairwise and linkage.
//
//   square = sum over features f of (x_f - y_f)^2
//
// Differences, so nothing cancels. Eight sums take the features l, l + 8, ... in order with one fma each and are added as
// double8.h does: a distance depends on its two rows alone, not on the tile's place, the grid or the card.
// square_tile: 32 rows against 32 by 256 threads, four entries a thread, their 32 sums in registers; rows pass through shared
// memory 32 features at a time, at an odd stride, so that the 16 rows that a half warp reads lie in different banks.
// candidate_squares: a few distances of one row by a warp, eight lanes a distance.
#pragma once

#include "common.cuh"
#include "pairwise.h"

namespace clustercl {

constexpr int kDistanceTile = 32;
constexpr int kDistanceThreads = 256;
constexpr int kDistanceSide = 16;  // a thread's entries lie this many rows and columns apart
constexpr int kDistanceStride = kDistanceTile + 1;
constexpr int kDistanceShared = 2 * kDistanceTile * kDistanceStride;  // doubles

__device__ inline double total(const double (&s)[8]) {
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

// square[r][c] of row threadIdx.x / 16 + 16 r and column threadIdx.x % 16 + 16 c. row(k), column(k): where the k-th begins, or
// null for a row of zeros; padded: doubles per row, a multiple of 8. shared: kDistanceShared doubles, free once all are here.
template <class Row, class Column>
__device__ void square_tile(double (&square)[2][2], const Row& row, const Column& column, std::int64_t padded, double* shared) {
  const int i = threadIdx.x / kDistanceSide, j = threadIdx.x % kDistanceSide;
  double* const x = shared;
  double* const y = shared + kDistanceTile * kDistanceStride;
  double sum[2][2][8];
#pragma unroll
  for (int k = 0; k < 32; ++k) sum[k / 16][k / 8 % 2][k % 8] = 0;
  for (std::int64_t from = 0; from < padded; from += kDistanceTile) {
    __syncthreads();
    for (int at = threadIdx.x; at < kDistanceTile * kDistanceTile; at += kDistanceThreads) {
      const int k = at / kDistanceTile, f = at % kDistanceTile;
      const double *a = row(k), *b = column(k);
      const bool inside = from + f < padded;
      x[k * kDistanceStride + f] = inside && a != nullptr ? a[from + f] : 0.0;
      y[k * kDistanceStride + f] = inside && b != nullptr ? b[from + f] : 0.0;
    }
    __syncthreads();
    const int end = static_cast<int>(padded - from < kDistanceTile ? padded - from : kDistanceTile);
    for (int f = 0; f < end; f += 8)
#pragma unroll
      for (int l = 0; l < 8; ++l) {
        const double a[2] = {x[i * kDistanceStride + f + l], x[(i + kDistanceSide) * kDistanceStride + f + l]};
        const double b[2] = {y[j * kDistanceStride + f + l], y[(j + kDistanceSide) * kDistanceStride + f + l]};
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const double difference = a[k / 2] - b[k % 2];
          sum[k / 2][k % 2][l] = fma(difference, difference, sum[k / 2][k % 2][l]);
        }
      }
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) square[k / 2][k % 2] = total(sum[k / 2][k % 2]);
}

// What a metric makes of the square of two prepared rows.
__device__ inline double finished(double square, Metric metric) {
  return metric == Metric::sqeuclidean ? square : metric == Metric::euclidean ? sqrt(square) : 0.5 * square;
}

// In lane k < count <= 32: the square of the distance of rows a and b, b the lane's own; any number where that is negative.
__device__ inline double candidate_squares(const double* rows, std::int64_t padded, std::int64_t a, std::int32_t b, int count) {
  const int lane = threadIdx.x % kWarp, own = lane % 8;
  const double* x = rows + a * padded;
  double out = 0;
  for (int base = 0; base < count; base += kWarp / 8) {
    const std::int32_t other = shuffle(b, base + lane / 8);
    double sum = 0;
    if (other >= 0) {
      const double* y = rows + other * padded;
      for (std::int64_t f = own; f < padded; f += 8) {
        const double difference = x[f] - y[f];
        sum = fma(difference, difference, sum);
      }
    }
    for (int step = 4; step > 0; step /= 2) sum += shuffle_xor(sum, step);
    const double mine = shuffle(sum, (lane - base) * 8 & (kWarp - 1));
    if (lane >= base && lane < base + kWarp / 8) out = mine;
  }
  return out;
}

}  // namespace clustercl
