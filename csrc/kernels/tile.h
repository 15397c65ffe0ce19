// The engine under the dense kernels on CPU: a block of kBlock rows times a block of kBlock rows, small enough for the cache.
//
//   dots                   s (kBlock, kBlock) = A B^T        A as rows, B as panels (blocks.h)
//   squares                s (kBlock, kBlock) = |a - b|^2    the same, from differences, at half the speed
//   accumulate             out (kBlock, width) += W B        B and out as rows, W (kBlock, kBlock) row-major
//   accumulate_transposed  out (kBlock, width) += W^T B
//
// A few rows times two registers stay in registers over the whole inner dimension: 12 rows with AVX-512's 32 registers, 6
// with AVX2's 16, 4 in the portable version, which needs one more for the product.
// Numerics: dots sums every element in one order, f = 0, 1, ..., so <a, b> and <b, a> have the same bits; accumulate adds up
// a block before it adds it to out, so that rounding grows with the number of blocks and not with that of all rows.
// Only for *_cpu.cpp; blocks.h holds what callers outside need to know of the layout.
#pragma once

#include "blocks.h"
#include "simd.h"

namespace clustercl::CLUSTERCL_ISA {

#if defined(CLUSTERCL_ISA_avx512)
constexpr int kTileRows = 12;
#elif defined(CLUSTERCL_ISA_avx2)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 4;
#endif
static_assert(kBlock % kTileRows == 0);

// take(sum, x, y) for every feature of every pair, two registers of columns at a time.
template <class T, class Take>
static inline void for_each_product(const T* a, const T* panels, std::int64_t d, T* s, const Take& take) {
  using V = typename Simd<T>::V;
  constexpr int lanes = kLanes<T>, panel = kPanel<T>;
  static_assert(panel % (2 * lanes) == 0 && kBlock % panel == 0);
  for (int column = 0; column < kBlock; column += 2 * lanes)
    for (int row = 0; row < kBlock; row += kTileRows) {
      V sum[kTileRows][2] = {};
      const T* b = panels + column / panel * panel * d + column % panel;
      for (std::int64_t begin = 0; begin < d; begin += panel) {
        const T* x = a + begin * kBlock + row * panel;
        const int end = static_cast<int>(d - begin < panel ? d - begin : panel);
        for (int f = 0; f < end; ++f, b += panel) {
          const V b0 = load(b), b1 = load(b + lanes);
#pragma GCC unroll 12
          for (int r = 0; r < kTileRows; ++r) {
            const V each = all(x[r * panel + f]);
            take(sum[r][0], each, b0);
            take(sum[r][1], each, b1);
          }
        }
      }
#pragma GCC unroll 12
      for (int r = 0; r < kTileRows; ++r) {
        store(s + (row + r) * kBlock + column, sum[r][0]);
        store(s + (row + r) * kBlock + column + lanes, sum[r][1]);
      }
    }
}

template <class T>
static inline void dots(const T* a, const T* panels, std::int64_t d, T* s) {
  using V = typename Simd<T>::V;
  for_each_product(a, panels, d, s, [](V& sum, V x, V y) { sum = fma(x, y, sum); });
}

template <class T>
static inline void squares(const T* a, const T* panels, std::int64_t d, T* s) {
  using V = typename Simd<T>::V;
  for_each_product(a, panels, d, s, [](V& sum, V x, V y) { sum = fma(x - y, x - y, sum); });
}

// Element (r, c) of W is w[r * kRowStep + c * kColumnStep].
template <class T, int kRowStep, int kColumnStep>
static inline void accumulate_steps(const T* w, const T* b, std::int64_t width, T* out) {
  using V = typename Simd<T>::V;
  constexpr int lanes = kLanes<T>, panel = kPanel<T>;
  for (std::int64_t begin = 0; begin < width; begin += panel)
    for (int f = 0; f < panel; f += 2 * lanes)
      for (int row = 0; row < kBlock; row += kTileRows) {
        V sum[kTileRows][2] = {};
        const T* from = b + begin * kBlock + f;
        const T* weight = w + row * kRowStep;
        for (int c = 0; c < kBlock; ++c, from += panel, weight += kColumnStep) {
          const V b0 = load(from), b1 = load(from + lanes);
#pragma GCC unroll 12
          for (int r = 0; r < kTileRows; ++r) {
            const V each = all(weight[r * kRowStep]);
            sum[r][0] = fma(each, b0, sum[r][0]);
            sum[r][1] = fma(each, b1, sum[r][1]);
          }
        }
        T* to = out + begin * kBlock + row * panel + f;
#pragma GCC unroll 12
        for (int r = 0; r < kTileRows; ++r, to += panel) {
          store(to, load(to) + sum[r][0]);
          store(to + lanes, load(to + lanes) + sum[r][1]);
        }
      }
}

template <class T>
static inline void accumulate(const T* w, const T* b, std::int64_t width, T* out) {
  accumulate_steps<T, kBlock, 1>(w, b, width, out);
}

template <class T>
static inline void accumulate_transposed(const T* w, const T* b, std::int64_t width, T* out) {
  accumulate_steps<T, 1, kBlock>(w, b, width, out);
}

}  // namespace clustercl::CLUSTERCL_ISA
