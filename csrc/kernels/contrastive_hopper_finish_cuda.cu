// The end of the backward pass of contrastive_hopper.h: positives, what lies along a row, the gradient by the temperature.
//
//   pull_i += sum over positives j of (g_i p_ij + g_j p_ji where the keys left it out) - (g_i + g_j) / |P(i)|, times u_j
//   grad_x_i = (pull_i - u_i <u_i, pull_i>) / (|x_i| T)
// A warp per row. Deterministic: one order of everything.
#include "contrastive_hopper.h"

#if CLUSTERCL_HOPPER
#include "contrastive_hopper.cuh"
#include "elements.cuh"

namespace clustercl {
namespace {

// What anchor i makes of positive j: its share of g_i, less where j is a candidate that the keys left out.
struct Positive {
  float similarity;  // natural
  __device__ float weight(float grad, float lse, float share, bool left_out) const {
    // Equal bits: the only candidate, e^0.
    const float p = !left_out ? 0.0f : similarity == lse ? 1.0f : expf(similarity - lse);
    return grad * (p - share);
  }
};

// grad_x_i = (pull_i - u_i <u_i, pull_i>) / (|x_i| T); along[i] = <u_i, pull_i> / T. A warp per row.
template <HopperType kType, int kChunks, class Target>
__global__ void __launch_bounds__(kGroupThreads)
    hopper_finish_kernel(HopperSizes sizes, HopperRows rows, const double* temperature, bool normalize, const float* lse,
                         const float* grad_loss, const float* unit, const float* pull, Target* grad_rows, double* along) {
  constexpr int kWarps = kGroupThreads / kWarp;
  const int lane = threadIdx.x % kWarp;
  const double inverse_temperature = 1.0 / *temperature;
  const float inverse_unit = unit != nullptr ? 1 / *unit : 1.0f;
  const auto anchor = [&](std::int64_t row) { return sizes.first <= row && row < sizes.first + sizes.count; };
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; row < sizes.n;
       row += static_cast<std::int64_t>(gridDim.x) * kWarps) {
    const std::int64_t i = rows.place[row];
    const SpreadRow<kChunks> own = spread_row<kType, kChunks>(rows, sizes, i);
    float sum[kChunks][2];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const auto two = *reinterpret_cast<const float2*>(pull + i * sizes.padded + kSwizzledFeatures * c + 2 * lane);
      sum[c][0] = two.x * inverse_unit;
      sum[c][1] = two.y * inverse_unit;
    }
    std::int64_t positives = 0;
    for (std::int64_t other = rows.next[row]; other != row; other = rows.next[other]) ++positives;
    const float share = 1 / static_cast<float>(positives);
    for (std::int64_t other = rows.next[row]; other != row; other = rows.next[other]) {
      const std::int64_t j = rows.place[other];
      const SpreadRow<kChunks> theirs = spread_row<kType, kChunks>(rows, sizes, j);
      // Rounded as the forward pass rounds a log-sum.
      const Positive positive{static_cast<float>(similarity(dot(own, theirs), rows, i, j, *temperature) / kLog2OfE)};
      const bool left_out = rows.key[i] == rows.key[j];
      float w = 0;
      if (anchor(row)) w += positive.weight(grad_loss[row - sizes.first], lse[row - sizes.first], share, left_out);
      if (anchor(other)) w += positive.weight(grad_loss[other - sizes.first], lse[other - sizes.first], share, left_out);
      w *= rows.inverse[j];
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
        for (int e = 0; e < 2; ++e) sum[c][e] += w * theirs.at[c][e];
    }
    // In float64, or what lies along the row, which is most of it where features are few, leaves its rounding behind.
    double dot_pull = 0, square = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c)
      for (int e = 0; e < 2; ++e) {
        dot_pull += static_cast<double>(own.at[c][e]) * static_cast<double>(sum[c][e]);
        square += static_cast<double>(own.at[c][e]) * static_cast<double>(own.at[c][e]);
      }
    for (int other = kWarp / 2; other > 0; other /= 2) {
      dot_pull += shuffle_xor(dot_pull, other);
      square += shuffle_xor(square, other);
    }
    const double share_along = normalize && square > 0 ? dot_pull / square : 0.0;
    const float factor = static_cast<float>(inverse_temperature) * rows.inverse_norm[i];
#pragma unroll
    for (int c = 0; c < kChunks; ++c)
      for (int e = 0; e < 2; ++e) {
        const std::int64_t f = kSwizzledFeatures * c + 2 * lane + e;
        if (f >= sizes.d) continue;
        const auto across = static_cast<float>(static_cast<double>(sum[c][e]) - static_cast<double>(own.at[c][e]) * share_along);
        write(across * factor, grad_rows[row * sizes.d + f]);
      }
    if (lane == 0) along[row] = dot_pull * static_cast<double>(rows.inverse[i]) * inverse_temperature;
  }
}

template <HopperType kType, class Target>
cudaError_t finish(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const float* lse,
                   const float* grad_loss, const float* unit, const float* pull, void* grad_rows, double* along, cudaStream_t stream) {
  return with_chunks<kType>(sizes, [&](auto chunks) {
    return launch(hopper_finish_kernel<kType, decltype(chunks)::value, Target>, grid_for(sizes.n, kGroupThreads / kWarp, 65536),
                  kGroupThreads, 0, stream, sizes, rows, in.temperature, in.normalize, lse, grad_loss, unit, pull,
                  static_cast<Target*>(grad_rows), along);
  });
}

}  // namespace

cudaError_t finish_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const float* lse,
                          const float* grad_loss, const float* unit, const float* pull, void* grad_rows, double* along,
                          double* grad_temperature, cudaStream_t stream) {
  const HopperType type = hopper_type(in);
  const auto halves = is_split(type) ? finish<HopperType::f16x3, float> : finish<HopperType::f16, float>;
  const auto call = is_half(type) ? halves : finish<HopperType::bf16, std::uint16_t>;
  const cudaError_t error = call(in, sizes, rows, lse, grad_loss, unit, pull, grad_rows, along, stream);
  if (error != cudaSuccess) return error;
  return temperature_gradient(sizes.n, along, in.temperature, grad_temperature, stream);
}

}  // namespace clustercl
#endif
