// From products of rows to weights, in the registers of the backward pass (contrastive_hopper_backward_cuda.cu has the formula).
#pragma once

#include "contrastive_hopper.cuh"

namespace clustercl {

#if defined(CLUSTERCL_SM90A)

// A lane's two rows.
struct Weigher {
  float scale[2], weight[2];
  std::int32_t key[2];

  // Products to weights times the columns' inverse. kCompared: columns may be of a row's key, or not there; those have inverse
  // and weight 0, which suffices in a narrow range.
  // Of the groups of 8 columns [kFrom, kTo). lse: of the first row, the second's 8 further on.
  template <bool kNarrow, bool kCompared, int kFrom, int kTo, int kCount>
  __device__ void weigh(float (&s)[kCount], const BackwardColumns* columns, const float* lse) const {
    const int t = threadIdx.x % 4;
    const float own_lse[2] = {kNarrow ? 0.0f : lse[0], kNarrow ? 0.0f : lse[8]};
#pragma unroll
    for (int c = kFrom; c < kTo; ++c) {
      const BackwardColumns& two = columns[4 * c + t];
#pragma unroll
      for (int e = 0; e < 2; ++e)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& x = s[4 * c + 2 * h + e];
          const float similarity = x * two.inverse[e] * scale[h];
          float w;
          if constexpr (kNarrow)
            w = exp2_approx(similarity) * fmaf(weight[h], two.inverse[e], two.weight[e]);
          else
            w = exp2_approx(similarity - own_lse[h]) * (weight[h] * two.inverse[e]) +
                exp2_approx(similarity - two.lse[e]) * two.weight[e];
          x = kCompared && (two.key[e] == key[h] || two.key[e] == kPadding) ? 0.0f : w;
        }
    }
  }
};

#endif

}  // namespace clustercl
