// Distances between the rows of two matrices on CUDA, float64, with the bits of the CPU kernel (pairwise_lanes.h).
//
// The formulas stand in pairwise.h. Nothing is stored beside the result. One thread per entry of out (n, m), neighbouring
// threads along y, so that out is written in whole lines; every row is read from the cache by the threads that share it.
// This is the plain kernel that proves the build and the answer; tiles on shared memory are a matter of speed and come
// with the other CUDA kernels. Deterministic: no atomics, one fixed order of summation.
// Source: the definitions of scipy.spatial.distance.
#include "pairwise_cuda.h"

#include "common.cuh"
#include "pairwise_lanes.h"

namespace clustercl {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kMostBlocks = 1 << 20;  // beyond this a thread takes several entries

__global__ void normalize_rows_kernel(double* rows, std::int64_t n, std::int64_t padded) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    normalize_row(rows + i * padded, padded);
}

__global__ void pairwise_distances_kernel(const double* x, std::int64_t n, const double* y, std::int64_t m,
                                          std::int64_t padded, Metric metric, double* out) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t k = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; k < n * m; k += step)
    out[k] = row_distance(x + k / m * padded, y + k % m * padded, padded, metric);
}

unsigned blocks(std::int64_t threads) {
  const std::int64_t wanted = (threads + kThreads - 1) / kThreads;
  return static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks);
}

}  // namespace

cudaError_t normalize_rows_cuda(double* rows, std::int64_t n, std::int64_t padded, cudaStream_t stream) {
  if (n == 0) return cudaSuccess;
  return launch(normalize_rows_kernel, dim3(blocks(n)), kThreads, 0, stream, rows, n, padded);
}

cudaError_t pairwise_distances_cuda(const double* x, std::int64_t n, const double* y, std::int64_t m,
                                    std::int64_t padded, Metric metric, double* out, cudaStream_t stream) {
  if (n == 0 || m == 0) return cudaSuccess;
  return launch(pairwise_distances_kernel, dim3(blocks(n * m)), kThreads, 0, stream, x, n, y, m, padded, metric, out);
}

}  // namespace clustercl
