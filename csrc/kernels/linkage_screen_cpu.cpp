// The tiles of linkage_screen.h, compiled once per instruction set.
#include "linkage_screen.h"

#include "tile.h"

namespace clustercl::CLUSTERCL_ISA {

namespace {

using V = Simd<float>::V;
using I = Simd<float>::I;
constexpr int kWidth = kLanes<float>;

// A bit per lane that holds.
inline unsigned bits(I mask) {
#if defined(CLUSTERCL_ISA_avx512)
  return _mm512_movepi32_mask((__m512i)mask);
#elif defined(CLUSTERCL_ISA_avx2)
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)mask));
#else
  unsigned out = 0;
  for (int lane = 0; lane < kWidth; ++lane) out |= static_cast<unsigned>(mask[lane] != 0) << lane;
  return out;
#endif
}

inline void insert(Screened& list, float lower, std::int32_t place) {
  insert_ascending(list.lower, list.place, kCandidates - 1, lower, place);
}

}  // namespace

void screen_tile(const ScreenSide& a, const ScreenSide& b, std::int64_t d, std::int64_t i, std::int64_t j, bool both,
                 float* s, Screened* lists) {
  const bool products = a.sums == Sums::products;
  (products ? dots<float> : squares<float>)(a.rows + i * kBlock * padded_width<float>(d), b.panels + j * kBlock * d, d, s);
  const bool columns_too = both && i != j;
  constexpr int last = kCandidates - 1;
  const int rows = static_cast<int>(a.count - i * kBlock < kBlock ? a.count - i * kBlock : kBlock);
  // L < limit is asked as N_a + N_b - 2 <a, b> (or + .. s) < limit / 2 (1/|a| + 1/|b|), which needs no division.
  alignas(64) float limit[kBlock];
  for (int c = 0; c < kBlock; ++c) {
    const std::int64_t column = j * kBlock + c;
    limit[c] = columns_too && column < b.count ? 0.5f * lists[column].lower[last] : -1.0f;
  }
  const V times = all(products ? -2.0f : static_cast<float>(1 - 0x1p-12 - static_cast<double>(d + 64) * 0x1p-24));
  for (int r = 0; r < rows; ++r) {
    const std::int64_t row = i * kBlock + r;
    Screened& own = lists[row];
    const V norm = all(a.norm[row]), inverse = all(a.inverse_size[row]);
    const I group = I{} + a.group[row];
    V own_limit = all(0.5f * own.lower[last]);
    for (int c = 0; c < kBlock; c += kWidth) {
      const std::int64_t column = j * kBlock + c;
      const V square = fma(load(s + r * kBlock + c), times, norm + load(b.norm + column));
      const V weight = inverse + load(b.inverse_size + column);
      const I strange = load_integers<float>(b.group + column) != group;
      const unsigned near_row = bits((square < own_limit * weight) & strange);
      const unsigned near_column = columns_too ? bits((square < load(limit + c) * weight) & strange) : 0;
      if ((near_row | near_column) == 0) continue;
      alignas(64) float lowers[kWidth];
      store(lowers, (square + square) / weight);
      for (unsigned near = near_row | near_column; near != 0; near &= near - 1) {
        const int lane = __builtin_ctz(near);
        const std::int32_t there = b.place[column + lane], here = a.place[row];
        const float lower = lowers[lane];
        if ((near_row >> lane & 1) != 0 && lower < own.lower[last]) insert(own, lower, there);
        if ((near_column >> lane & 1) != 0 && lower < lists[column + lane].lower[last]) {
          insert(lists[column + lane], lower, here);
          limit[c + lane] = 0.5f * lists[column + lane].lower[last];
        }
      }
      own_limit = all(0.5f * own.lower[last]);
    }
  }
}

}  // namespace clustercl::CLUSTERCL_ISA
