// Distances between the rows of two matrices on CUDA, float64, with the bits of the CPU kernel.
//
// The formulas stand in pairwise.h. Nothing is stored beside the result: tiles of distances.cuh, and of each the metric.
// Deterministic: no atomics, one fixed order of summation.
// Source: the definitions of scipy.spatial.distance.
#include "pairwise_cuda.h"

#include "distances.cuh"
#include "launches.cuh"

namespace clustercl {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kMostBlocks = 1 << 20;  // beyond this a block takes several tiles

// Divides the row by its norm, in place, unless that is 0.
__device__ void normalize_row(double* row, std::int64_t padded) {
  double largest = 0.0;
  for (std::int64_t f = 0; f < padded; ++f) largest = fmax(largest, fabs(row[f]));
  if (largest == 0.0) return;
  int exponent;
  frexp(largest, &exponent);
  double sum[8] = {};
  for (std::int64_t f = 0; f < padded; f += 8)
    for (int lane = 0; lane < 8; ++lane) {
      row[f + lane] = ldexp(row[f + lane], -exponent);
      sum[lane] = fma(row[f + lane], row[f + lane], sum[lane]);
    }
  const double norm = sqrt(total(sum));
  for (std::int64_t f = 0; f < padded; ++f) row[f] = row[f] / norm;
}

__global__ void normalize_rows_kernel(double* rows, std::int64_t n, std::int64_t padded) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    normalize_row(rows + i * padded, padded);
}

__global__ void __launch_bounds__(kDistanceThreads)
    pairwise_distances_kernel(const double* x, std::int64_t n, const double* y, std::int64_t m, std::int64_t padded, Metric metric,
                              double* out) {
  double* const shared = shared_memory<double>();
  const std::int64_t tiles = (m + kDistanceTile - 1) / kDistanceTile, tasks = (n + kDistanceTile - 1) / kDistanceTile * tiles;
  for (std::int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const std::int64_t row = task / tiles * kDistanceTile, column = task % tiles * kDistanceTile;
    double square[2][2];
    square_tile(
        square, [&](int k) { return row + k < n ? x + (row + k) * padded : nullptr; },
        [&](int k) { return column + k < m ? y + (column + k) * padded : nullptr; }, padded, shared);
    for (int k = 0; k < 4; ++k) {
      const std::int64_t i = row + threadIdx.x / kDistanceSide + kDistanceSide * (k / 2);
      const std::int64_t j = column + threadIdx.x % kDistanceSide + kDistanceSide * (k % 2);
      if (i < n && j < m) out[i * m + j] = finished(square[k / 2][k % 2], metric);
    }
  }
}

}  // namespace

cudaError_t normalize_rows_cuda(double* rows, std::int64_t n, std::int64_t padded, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  Launches launches{stream};
  launches.launch(normalize_rows_kernel, blocks_for(n, kThreads, kMostBlocks), kThreads, 0, rows, n, padded);
  return launches.error;
}

cudaError_t pairwise_distances_cuda(const double* x, std::int64_t n, const double* y, std::int64_t m,
                                    std::int64_t padded, Metric metric, double* out, cudaStream_t stream) {
  if (n == 0 || m == 0) return cudaSuccess;
  const std::int64_t tiles = (n + kDistanceTile - 1) / kDistanceTile * ((m + kDistanceTile - 1) / kDistanceTile);
  Launches launches{stream};
  launches.launch(pairwise_distances_kernel, blocks_for(tiles, 1, kMostBlocks), kDistanceThreads, sizeof(double) * kDistanceShared, x,
                  n, y, m, padded, metric, out);
  return launches.error;
}

}  // namespace clustercl
