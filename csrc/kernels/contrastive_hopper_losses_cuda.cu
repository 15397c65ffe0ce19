// The end of the forward pass of contrastive_hopper.h: losses and log-sums from the sums of exponentials, and positives.
#include "contrastive_hopper.h"

#if CLUSTERCL_HOPPER
#include "contrastive_hopper.cuh"

namespace clustercl {
namespace {

// A warp per anchor: adds the positives among the candidates that its key left out.
template <HopperType kType, int kChunks>
__global__ void __launch_bounds__(kGroupThreads)
    hopper_losses_kernel(HopperSizes sizes, HopperRows rows, const double* temperature, const float* largest, const double* sum,
                         float* loss, float* lse) {
  constexpr int kWarps = kGroupThreads / kWarp;
  for (std::int64_t k = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; k < sizes.count;
       k += static_cast<std::int64_t>(gridDim.x) * kWarps) {
    const std::int64_t i = rows.place[sizes.first + k];
    const SpreadRow<kChunks> own = spread_row<kType, kChunks>(rows, sizes, i);
    double most = sum[i] > 0 ? static_cast<double>(largest[i]) + log2(sum[i]) : -INFINITY;
    double total = sum[i] > 0 ? 1.0 : sum[i];  // not a number stays what it is
    double near = 0;
    std::int64_t positives = 0;
    for (std::int32_t other = rows.next[sizes.first + k]; other != sizes.first + k; other = rows.next[other]) {
      const std::int64_t j = rows.place[other];
      const double x = similarity(dot(own, spread_row<kType, kChunks>(rows, sizes, j)), rows, i, j, *temperature);
      near += x;
      ++positives;
      if (rows.key[i] != rows.key[j]) continue;  // it was a candidate like any other
      if (x > most) {
        total = (most == -INFINITY ? total : total * exp2(most - x)) + 1.0;
        most = x;
      } else {
        total += exp2(x - most);
      }
    }
    if (threadIdx.x % kWarp != 0) continue;
    const double log_sum = (most + log2(total)) / kLog2OfE;
    lse[k] = static_cast<float>(log_sum);
    loss[k] = static_cast<float>(log_sum - near / (kLog2OfE * static_cast<double>(positives)));
  }
}

template <HopperType kType>
cudaError_t run(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const float* largest, const double* sum,
                float* loss, float* lse, cudaStream_t stream) {
  return with_chunks<kType>(sizes, [&](auto chunks) {
    return launch(hopper_losses_kernel<kType, decltype(chunks)::value>, grid_for(in.count, kGroupThreads / kWarp, 65536),
                  kGroupThreads, 0, stream, sizes, rows, in.temperature, largest, sum, loss, lse);
  });
}

}  // namespace

cudaError_t losses_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const float* largest,
                          const double* sum, float* loss, float* lse, cudaStream_t stream) {
  const HopperType type = hopper_type(in);
  const auto halves = is_split(type) ? run<HopperType::f16x3> : run<HopperType::f16>;
  const auto call = is_half(type) ? halves : run<HopperType::bf16>;
  return call(in, sizes, rows, largest, sum, loss, lse, stream);
}

}  // namespace clustercl
#endif
