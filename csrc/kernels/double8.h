// Eight doubles that behave alike on every instruction set: the lanes and the order of the final sum never change.
//
// Only for *_cpu.cpp, which are compiled once per instruction set: everything here lives in the namespace CLUSTERCL_ISA.
// AVX-512 holds the eight in one register, AVX2 in two, the portable version in an array. A fused multiply-add is one on
// all three (the portable one calls fma(), slow but rounded the same), and total() and totals() add in one fixed order:
// ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)).
#pragma once

#include <cstdint>

#include "compact.h"

#if defined(CLUSTERCL_ISA_avx512) || defined(CLUSTERCL_ISA_avx2)
#include <immintrin.h>
#endif

namespace clustercl::CLUSTERCL_ISA {

#if defined(CLUSTERCL_ISA_avx512)

struct Double8 {
  __m512d v;
  static Double8 zero() { return {_mm512_setzero_pd()}; }
  static Double8 all(double x) { return {_mm512_set1_pd(x)}; }
  static Double8 load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static Double8 load(const Compact* p) {
    const __m512i codes = _mm512_maskz_cvtepu32_epi64(0xff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    const __m512i least = _mm512_set1_epi64(kCompactLeastBits);
    const __mmask8 more = _mm512_test_epi64_mask(codes, codes);  // than 0
    return {(__m512d)_mm512_maskz_add_epi64(more, _mm512_maskz_slli_epi64(more, codes, kCompactShift), least)};
  }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  void store(Compact* p) const {
    const __m512i above = _mm512_sub_epi64((__m512i)v, _mm512_set1_epi64(kCompactLeastBits - kCompactHalf));
    const __m512i codes = _mm512_maskz_srli_epi64(0xff, _mm512_maskz_max_epi64(0xff, above, _mm512_setzero_si512()), kCompactShift);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_maskz_cvtepi64_epi32(0xff, codes));
  }
};
static inline Double8 operator+(Double8 a, Double8 b) { return {_mm512_add_pd(a.v, b.v)}; }
static inline Double8 operator-(Double8 a, Double8 b) { return {_mm512_sub_pd(a.v, b.v)}; }
static inline Double8 operator*(Double8 a, Double8 b) { return {_mm512_mul_pd(a.v, b.v)}; }
static inline Double8 operator/(Double8 a, Double8 b) { return {_mm512_div_pd(a.v, b.v)}; }
static inline Double8 fma(Double8 a, Double8 b, Double8 c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
// a < b ? x : y, lane by lane.
static inline Double8 if_less(Double8 a, Double8 b, Double8 x, Double8 y) {
  return {_mm512_mask_blend_pd(_mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
static inline Double8 square_root(Double8 a) { return {_mm512_maskz_sqrt_pd(0xff, a.v)}; }
// A bit per lane where a < b.
static inline unsigned less(Double8 a, Double8 b) { return _mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ); }
static inline double total(Double8 a) {
  // The masked form: GCC 12 warns of the undefined operand inside the plain one and inside the cast.
  const __m256d low = _mm512_maskz_extractf64x4_pd(0xf, a.v, 0), high = _mm512_maskz_extractf64x4_pd(0xf, a.v, 1);
  const __m256d four = _mm256_add_pd(low, high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
// The totals of a[0] .. a[7].
static inline Double8 totals(const Double8* a) {
  // Pairs of accumulators share a register from the first addition on, all eight from the last.
  const auto halves = [](__m512d x, __m512d y) {  // (l0 + l4, .., l3 + l7) of x, the same of y
    return _mm512_add_pd(_mm512_maskz_shuffle_f64x2(0xff, x, y, 0x44), _mm512_maskz_shuffle_f64x2(0xff, x, y, 0xee));
  };
  const auto quarters = [](__m512d x, __m512d y) {  // of each of the four in x and y: its first two plus its last two
    return _mm512_add_pd(_mm512_maskz_shuffle_f64x2(0xff, x, y, 0x88), _mm512_maskz_shuffle_f64x2(0xff, x, y, 0xdd));
  };
  const __m512d even = quarters(halves(a[0].v, a[2].v), halves(a[4].v, a[6].v));
  const __m512d odd = quarters(halves(a[1].v, a[3].v), halves(a[5].v, a[7].v));
  return {_mm512_add_pd(_mm512_maskz_unpacklo_pd(0xff, even, odd), _mm512_maskz_unpackhi_pd(0xff, even, odd))};
}

#elif defined(CLUSTERCL_ISA_avx2)

struct Double8 {
  __m256d v, w;
  static Double8 zero() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
  static Double8 all(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
  static Double8 load(const double* p) { return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)}; }
  static Double8 load(const Compact* p) { return {four(p), four(p + 4)}; }
  static __m256d four(const Compact* p) {
    const __m256i codes = _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i least = _mm256_set1_epi64x(kCompactLeastBits);
    const __m256i bits = _mm256_add_epi64(_mm256_slli_epi64(codes, kCompactShift), least);
    return _mm256_castsi256_pd(_mm256_andnot_si256(_mm256_cmpeq_epi64(codes, _mm256_setzero_si256()), bits));
  }
  void store(double* p) const {
    _mm256_storeu_pd(p, v);
    _mm256_storeu_pd(p + 4, w);
  }
  void store(Compact* p) const {
    store_four(v, p);
    store_four(w, p + 4);
  }
  static void store_four(__m256d x, Compact* p) {
    const __m256i above = _mm256_sub_epi64(_mm256_castpd_si256(x), _mm256_set1_epi64x(kCompactLeastBits - kCompactHalf));
    const __m256i positive = _mm256_and_si256(above, _mm256_cmpgt_epi64(above, _mm256_setzero_si256()));
    const __m256i codes = _mm256_srli_epi64(positive, kCompactShift);
    const __m256i together = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(together));
  }
};
static inline Double8 operator+(Double8 a, Double8 b) { return {_mm256_add_pd(a.v, b.v), _mm256_add_pd(a.w, b.w)}; }
static inline Double8 operator-(Double8 a, Double8 b) { return {_mm256_sub_pd(a.v, b.v), _mm256_sub_pd(a.w, b.w)}; }
static inline Double8 operator*(Double8 a, Double8 b) { return {_mm256_mul_pd(a.v, b.v), _mm256_mul_pd(a.w, b.w)}; }
static inline Double8 operator/(Double8 a, Double8 b) { return {_mm256_div_pd(a.v, b.v), _mm256_div_pd(a.w, b.w)}; }
static inline Double8 fma(Double8 a, Double8 b, Double8 c) {
  return {_mm256_fmadd_pd(a.v, b.v, c.v), _mm256_fmadd_pd(a.w, b.w, c.w)};
}
static inline Double8 if_less(Double8 a, Double8 b, Double8 x, Double8 y) {
  return {_mm256_blendv_pd(y.v, x.v, _mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ)),
          _mm256_blendv_pd(y.w, x.w, _mm256_cmp_pd(a.w, b.w, _CMP_LT_OQ))};
}
static inline Double8 square_root(Double8 a) { return {_mm256_sqrt_pd(a.v), _mm256_sqrt_pd(a.w)}; }
static inline unsigned less(Double8 a, Double8 b) {
  return static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ)) |
                               _mm256_movemask_pd(_mm256_cmp_pd(a.w, b.w, _CMP_LT_OQ)) << 4);
}
static inline double total(Double8 a) {
  const __m256d four = _mm256_add_pd(a.v, a.w);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

#else

struct Double8 {
  double v[8];
  template <class F>
  static Double8 each(const F& f) {
    Double8 out;
    for (int i = 0; i < 8; ++i) out.v[i] = f(i);
    return out;
  }
  static Double8 all(double x) {
    return each([&](int) { return x; });
  }
  static Double8 zero() { return all(0.0); }
  template <class T>
  static Double8 load(const T* p) {
    return each([&](int i) { return unpack(p[i]); });
  }
  template <class T>
  void store(T* p) const {
    for (int i = 0; i < 8; ++i) pack(v[i], p[i]);
  }
};
static inline Double8 operator+(const Double8& a, const Double8& b) {
  return Double8::each([&](int i) { return a.v[i] + b.v[i]; });
}
static inline Double8 operator-(const Double8& a, const Double8& b) {
  return Double8::each([&](int i) { return a.v[i] - b.v[i]; });
}
static inline Double8 operator*(const Double8& a, const Double8& b) {
  return Double8::each([&](int i) { return a.v[i] * b.v[i]; });
}
static inline Double8 operator/(const Double8& a, const Double8& b) {
  return Double8::each([&](int i) { return a.v[i] / b.v[i]; });
}
static inline Double8 fma(const Double8& a, const Double8& b, const Double8& c) {
  return Double8::each([&](int i) { return __builtin_fma(a.v[i], b.v[i], c.v[i]); });
}
static inline Double8 if_less(const Double8& a, const Double8& b, const Double8& x, const Double8& y) {
  return Double8::each([&](int i) { return a.v[i] < b.v[i] ? x.v[i] : y.v[i]; });
}
static inline Double8 square_root(const Double8& a) {
  return Double8::each([&](int i) { return __builtin_sqrt(a.v[i]); });
}
static inline unsigned less(const Double8& a, const Double8& b) {
  unsigned out = 0;
  for (int i = 0; i < 8; ++i) out |= static_cast<unsigned>(a.v[i] < b.v[i]) << i;
  return out;
}
static inline double total(const Double8& a) {
  const double two_low = (a.v[0] + a.v[4]) + (a.v[2] + a.v[6]);
  const double two_high = (a.v[1] + a.v[5]) + (a.v[3] + a.v[7]);
  return two_low + two_high;
}

#endif

#if !defined(CLUSTERCL_ISA_avx512)
static inline Double8 totals(const Double8* a) {
  double out[8];
  for (int i = 0; i < 8; ++i) out[i] = total(a[i]);
  return Double8::load(out);
}
#endif

}  // namespace clustercl::CLUSTERCL_ISA
