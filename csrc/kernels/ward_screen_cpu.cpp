// The tiles of ward_screen.h, compiled once per instruction set.
#include "ward_screen.h"

#include "tile.h"

namespace clustercl::CLUSTERCL_ISA {

namespace {

using V = Simd<float>::V;
using I = Simd<float>::I;
constexpr int kWidth = kLanes<float>;

inline bool any(I mask) {
#if defined(CLUSTERCL_ISA_avx512)
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(CLUSTERCL_ISA_avx2)
  return _mm256_movemask_ps((__m256)mask) != 0;
#else
  return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

inline void insert(Screened& list, float lower, std::int32_t place) {
  int at = kCandidates - 1;
  for (; at > 0 && list.lower[at - 1] > lower; --at) {
    list.lower[at] = list.lower[at - 1];
    list.place[at] = list.place[at - 1];
  }
  list.lower[at] = lower;
  list.place[at] = place;
}

}  // namespace

void ward_screen_tile(const ScreenSide& a, const ScreenSide& b, std::int64_t d, std::int64_t i, std::int64_t j, bool both,
                      float* s, Screened* lists) {
  dots(a.rows + i * kBlock * padded_width<float>(d), b.panels + j * kBlock * d, d, s);
  const bool columns_too = both && i != j;
  constexpr int last = kCandidates - 1;
  const int rows = static_cast<int>(a.count - i * kBlock < kBlock ? a.count - i * kBlock : kBlock);
  // L < limit is asked as N_a + N_b - 2 <a, b> < limit / 2 (1/|a| + 1/|b|), which needs no division.
  alignas(64) float limit[kBlock];
  for (int c = 0; c < kBlock; ++c) {
    const std::int64_t column = j * kBlock + c;
    limit[c] = columns_too && column < b.count ? 0.5f * lists[column].lower[last] : -1.0f;
  }
  const V minus_two = all(-2.0f);
  for (int r = 0; r < rows; ++r) {
    const std::int64_t row = i * kBlock + r;
    Screened& own = lists[row];
    const V norm = all(a.norm[row]), inverse = all(a.inverse_size[row]);
    V own_limit = all(0.5f * own.lower[last]);
    for (int c = 0; c < kBlock; c += kWidth) {
      const std::int64_t column = j * kBlock + c;
      const V square = fma(load(s + r * kBlock + c), minus_two, norm + load(b.norm + column));
      const V weight = inverse + load(b.inverse_size + column);
      const I near_row = square < own_limit * weight;
      const I near_column = columns_too ? square < load(limit + c) * weight : I{};
      if (!any(near_row | near_column)) continue;
      for (int lane = 0; lane < kWidth; ++lane) {
        if (!(near_row[lane] | near_column[lane])) continue;
        const std::int32_t there = b.place[column + lane], here = a.place[row];
        if (there == here) continue;
        const float lower = 2.0f * square[lane] / weight[lane];
        if (near_row[lane] && lower < own.lower[last]) insert(own, lower, there);
        if (near_column[lane] && lower < lists[column + lane].lower[last]) {
          insert(lists[column + lane], lower, here);
          limit[c + lane] = 0.5f * lists[column + lane].lower[last];
        }
      }
      own_limit = all(0.5f * own.lower[last]);
    }
  }
}

}  // namespace clustercl::CLUSTERCL_ISA
