// The engine under the dense kernels on CPU: a block of rows times a block of rows, small enough to stay in cache.
//
//   dots       out (kBlockRows, columns) = scale * A B^T     A row-major, B in panels
//   accumulate out (kBlockRows, width)  += W B               W and B row-major
//
// A panel holds kPanel rows of B transposed: element f of row c at panel[f * kPanel + c], so that the inner loop reads whole
// registers. A few rows of A times two registers of B's rows stay in registers over the whole inner dimension: 12 rows with
// AVX-512's 32 registers, 6 with AVX2's 16, 4 in the portable version, which needs one more for the product.
// Numerics: dots sums every element in one order, f = 0, 1, ..., so <a, b> and <b, a> have the same bits; accumulate adds up
// its columns before it adds them to out, so that rounding grows with their number and not with that of all rows.
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
static_assert(kBlockRows % kTileRows == 0);

// out[r * out_stride + c] = scale * sum_f a[r * a_stride + f] * B[c][f], r < kBlockRows, c < panels * kPanel.
template <class T>
static inline void dots(const T* a, std::int64_t a_stride, const T* panel, std::int64_t panels, std::int64_t d, T scale,
                        T* out, std::int64_t out_stride) {
  using V = typename Simd<T>::V;
  constexpr int lanes = kLanes<T>;
  static_assert(kPanel<T> % (2 * lanes) == 0);
  for (std::int64_t p = 0; p < panels; ++p, panel += d * kPanel<T>)
    for (int column = 0; column < kPanel<T>; column += 2 * lanes)
      for (int row = 0; row < kBlockRows; row += kTileRows) {
        V sum[kTileRows][2] = {};
        const T* b = panel + column;
        const T* x = a + row * a_stride;
        for (std::int64_t f = 0; f < d; ++f, b += kPanel<T>) {
          const V b0 = load(b), b1 = load(b + lanes);
#pragma GCC unroll 12
          for (int r = 0; r < kTileRows; ++r) {
            const V each = all(x[r * a_stride + f]);
            sum[r][0] = fma(each, b0, sum[r][0]);
            sum[r][1] = fma(each, b1, sum[r][1]);
          }
        }
        T* to = out + row * out_stride + p * kPanel<T> + column;
#pragma GCC unroll 12
        for (int r = 0; r < kTileRows; ++r) {
          store(to + r * out_stride, sum[r][0] * scale);
          store(to + r * out_stride + lanes, sum[r][1] * scale);
        }
      }
}

// out[r * out_stride + f] += sum_c w[r * w_stride + c] * b[c * b_stride + f], r < kBlockRows, f < width, a multiple of kPanel.
template <class T>
static inline void accumulate(const T* w, std::int64_t w_stride, std::int64_t columns, const T* b, std::int64_t b_stride,
                              std::int64_t width, T* out, std::int64_t out_stride) {
  using V = typename Simd<T>::V;
  constexpr int lanes = kLanes<T>;
  for (std::int64_t f = 0; f < width; f += 2 * lanes)
    for (int row = 0; row < kBlockRows; row += kTileRows) {
      V sum[kTileRows][2] = {};
      const T* from = b + f;
      const T* weight = w + row * w_stride;
      for (std::int64_t c = 0; c < columns; ++c, from += b_stride) {
        const V b0 = load(from), b1 = load(from + lanes);
#pragma GCC unroll 12
        for (int r = 0; r < kTileRows; ++r) {
          const V each = all(weight[r * w_stride + c]);
          sum[r][0] = fma(each, b0, sum[r][0]);
          sum[r][1] = fma(each, b1, sum[r][1]);
        }
      }
      T* to = out + row * out_stride + f;
#pragma GCC unroll 12
      for (int r = 0; r < kTileRows; ++r) {
        store(to + r * out_stride, load(to + r * out_stride) + sum[r][0]);
        store(to + r * out_stride + lanes, load(to + r * out_stride + lanes) + sum[r][1]);
      }
    }
}

}  // namespace clustercl::CLUSTERCL_ISA
