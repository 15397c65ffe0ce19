// What rows and columns weigh in the backward pass of contrastive_hopper.h: g 2^-lse, or both apart where the range is not narrow.
//
// float16 weights are at most 4 |g|; a power of two from the largest |g| brings them near the largest numbers that float16 has, or,
// where smaller ones need not have more digits, near 2^10. contrastive_hopper_finish_cuda.cu takes it back.
#include "contrastive_hopper.h"

#if CLUSTERCL_HOPPER
#include "contrastive_hopper.cuh"

namespace clustercl {
namespace {

// The power of two that brings the largest |g| to half of 2^power or more.
__global__ void __launch_bounds__(1024) weight_unit_kernel(std::int64_t count, const float* grad_loss, int power, float* unit) {
  float* const part = shared_memory<float>();
  float largest = 0;
  for (std::int64_t k = threadIdx.x; k < count; k += 1024) largest = fmaxf(largest, fabsf(grad_loss[k]));
  part[threadIdx.x] = largest;
  for (unsigned step = 512; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) part[threadIdx.x] = fmaxf(part[threadIdx.x], part[threadIdx.x + step]);
  }
  if (threadIdx.x != 0) return;
  int exponent = power;
  if (part[0] > 0 && part[0] < INFINITY) frexpf(part[0], &exponent);
  *unit = ldexpf(1.0f, power - exponent < 120 ? power - exponent : 120);
}

__global__ void row_weights_kernel(HopperSizes sizes, HopperRows rows, const double* temperature, bool normalize, const float* lse,
                                   const float* grad_loss, RowWeights out) {
  const Range range = range_of(*temperature, normalize);
  const double unit = out.unit != nullptr ? *out.unit : 1.0;
  for (std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; i < sizes.rows;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    const bool anchor = i < sizes.count;
    const std::int64_t k = anchor ? rows.row[i] - sizes.first : 0;
    const double log_sum = anchor ? static_cast<double>(lse[k]) * kLog2OfE : INFINITY;
    double weight = anchor ? static_cast<double>(grad_loss[k]) * unit : 0.0;
    if (range.narrow && anchor) weight *= exp2(-log_sum);
    out.weight[i] = static_cast<float>(weight);
    out.lse[i] = static_cast<float>(log_sum);
    BackwardColumns& columns = out.columns[i / 2];
    columns.inverse[i % 2] = rows.inverse[i];
    columns.weight[i % 2] = static_cast<float>(weight) * rows.inverse[i];
    columns.key[i % 2] = rows.key[i];
    columns.lse[i % 2] = out.lse[i];
  }
}

}  // namespace

cudaError_t weigh_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const float* lse,
                         const float* grad_loss, const RowWeights& out, cudaStream_t stream) {
  const HopperType type = hopper_type(in);
  if (out.unit != nullptr) {
    const cudaError_t error =
        launch(weight_unit_kernel, dim3(1), 1024, 1024 * sizeof(float), stream, sizes.count, grad_loss, is_split(type) ? 13 : 10,
               out.unit);
    if (error != cudaSuccess) return error;
  }
  constexpr int kThreads = 256;
  return launch(row_weights_kernel, grid_for(sizes.rows, kThreads, 4096), kThreads, 0, stream, sizes, rows,
                in.temperature, in.normalize, lse, grad_loss, out);
}

}  // namespace clustercl
#endif
