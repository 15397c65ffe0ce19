#include "ceiling.h"

#include "simd.h"

namespace clustercl::CLUSTERCL_ISA {

double multiply_add(std::int64_t steps, float* result) {
  using V = Simd<float>::V;
  constexpr int kChains = 12;  // two units with a latency of four to five cycles need ten
  const V a = all(*result), b = all(1.0f);
  V sum[kChains];
  for (int c = 0; c < kChains; ++c) sum[c] = all(static_cast<float>(c));  // chains with equal values would become one
  for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sum[c] = fma(sum[c], a, b);
  }
  for (int c = 0; c < kChains; ++c) *result += total<float>(sum[c]);
  return 2.0 * kChains * kLanes<float> * static_cast<double>(steps);
}

}  // namespace clustercl::CLUSTERCL_ISA
