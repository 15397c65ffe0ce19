// The gradient of the contrastive loss by its temperature on CUDA, from what the ends of both backward passes leave by row.
//
//   -sum(along) / (2 T),  along_i = <u_i, pull_i> / T
// One block, several sums a thread. Deterministic: one order.
#include "contrastive_cuda.h"
#include "launches.cuh"

namespace clustercl {
namespace {

constexpr int kThreads = 1024;

__global__ void __launch_bounds__(kThreads)
    contrastive_temperature_kernel(std::int64_t n, const double* along, const double* temperature, double* out) {
  double* const part = shared_memory<double>();
  double sum[4] = {};
  std::int64_t i = threadIdx.x;
  for (; i + 3 * kThreads < n; i += 4 * kThreads)
    for (int k = 0; k < 4; ++k) sum[k] += along[i + k * kThreads];
  for (; i < n; i += kThreads) sum[0] += along[i];
  part[threadIdx.x] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
  }
  if (threadIdx.x == 0) *out = -part[0] / (2.0 * *temperature);
}

}  // namespace

cudaError_t temperature_gradient(std::int64_t n, const double* along, const double* temperature, double* out, cudaStream_t stream) {
  return launch(contrastive_temperature_kernel, dim3(1), kThreads, kThreads * sizeof(double), stream, n, along, temperature, out);
}

}  // namespace clustercl
