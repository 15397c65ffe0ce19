// One register of floats or doubles, as wide as the instruction set has them: 64, 32 or 16 bytes.
//
// Only for *_cpu.cpp, which are compiled once per instruction set: everything here lives in the namespace CLUSTERCL_ISA.
// Arithmetic, comparison and selection (mask ? a : b) are GCC's vector extensions; what they lack is below. Lanes and fused
// multiply-adds differ between the instruction sets, so results agree to rounding only; distance_tile.h is for equal bits.
#pragma once

#include <cstdint>

#if defined(CLUSTERCL_ISA_avx512) || defined(CLUSTERCL_ISA_avx2)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace clustercl::CLUSTERCL_ISA {

#if defined(CLUSTERCL_ISA_avx512)
constexpr int kVectorBytes = 64;
#elif defined(CLUSTERCL_ISA_avx2)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// V a vector of T; I a vector of signed integers of the same width, which is also what a comparison gives (-1 or 0 per lane).
template <class T>
struct Simd;

template <>
struct Simd<float> {
  using Integer = std::int32_t;
  typedef float V __attribute__((vector_size(kVectorBytes)));
  typedef std::int32_t I __attribute__((vector_size(kVectorBytes)));
};

template <>
struct Simd<double> {
  using Integer = std::int64_t;
  typedef double V __attribute__((vector_size(kVectorBytes)));
  typedef std::int64_t I __attribute__((vector_size(kVectorBytes)));
};

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
static inline typename Simd<T>::V load(const T* p) {
  typename Simd<T>::V out;
  __builtin_memcpy(&out, p, sizeof(out));
  return out;
}

template <class T>
static inline typename Simd<T>::I load_integers(const typename Simd<T>::Integer* p) {
  typename Simd<T>::I out;
  __builtin_memcpy(&out, p, sizeof(out));
  return out;
}

template <class T>
static inline void store(T* p, typename Simd<T>::V v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

template <class T>
static inline typename Simd<T>::V all(T x) {
  return x - typename Simd<T>::V{};
}

static inline Simd<float>::V fma(Simd<float>::V a, Simd<float>::V b, Simd<float>::V c) {
#if defined(CLUSTERCL_ISA_avx512)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(CLUSTERCL_ISA_avx2)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

static inline Simd<double>::V fma(Simd<double>::V a, Simd<double>::V b, Simd<double>::V c) {
#if defined(CLUSTERCL_ISA_avx512)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(CLUSTERCL_ISA_avx2)
  return _mm256_fmadd_pd(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f64(c, a, b);
#else
  return a * b + c;
#endif
}

template <class T>
static inline T largest(typename Simd<T>::V v) {
  T out = v[0];
  for (int lane = 1; lane < kLanes<T>; ++lane) out = v[lane] > out ? v[lane] : out;
  return out;
}

template <class T>
static inline T total(typename Simd<T>::V v) {
  T out = v[0];
  for (int lane = 1; lane < kLanes<T>; ++lane) out += v[lane];
  return out;
}

// e^x = 2^k e^r with k = round(x / ln 2): adding 1.5 * 2^23 (2^52) rounds, and leaves k in the low bits. Below the smallest
// normal number the result is 0, above e^88 (e^709) it stays there; e^0 is exactly 1 and NaN stays NaN. Error below 2 ulp.
// Source: Cephes expf (its polynomial); for float64 the Taylor series, whose 14th term is below 4e-18.
static inline Simd<float>::V exponential(Simd<float>::V x) {
  using V = Simd<float>::V;
  using I = Simd<float>::I;
  const V low = all(-87.33f), high = all(88.0f);
  x = x > high ? high : x;
  const V clamped = x < low ? low : x;
  const V magic = all(12582912.0f);
  const V shifted = fma(clamped, all(1.44269504f), magic);
  const I k = (I)shifted - (I)magic;
  const V whole = shifted - magic;
  V r = fma(whole, all(-0.693359375f), clamped);
  r = fma(whole, all(2.12194440e-4f), r);
  V p = all(1.9875691500e-4f);
  p = fma(p, r, all(1.3981999507e-3f));
  p = fma(p, r, all(8.3334519073e-3f));
  p = fma(p, r, all(4.1665795894e-2f));
  p = fma(p, r, all(1.6666665459e-1f));
  p = fma(p, r, all(5.0000001201e-1f));
  p = fma(p * r, r, r) + 1.0f;
  const V power = (V)((k + 127) << 23);
  return x < low ? V{} : p * power;
}

static inline Simd<double>::V exponential(Simd<double>::V x) {
  using V = Simd<double>::V;
  using I = Simd<double>::I;
  const V low = all(-708.39), high = all(709.0);
  x = x > high ? high : x;
  const V clamped = x < low ? low : x;
  const V magic = all(6755399441055744.0);
  const V shifted = fma(clamped, all(1.4426950408889634), magic);
  const I k = (I)shifted - (I)magic;
  const V whole = shifted - magic;
  V r = fma(whole, all(-6.93145751953125e-1), clamped);
  r = fma(whole, all(-1.42860682030941723212e-6), r);
  V p = all(1.0 / 6227020800.0);
  p = fma(p, r, all(1.0 / 479001600.0));
  p = fma(p, r, all(1.0 / 39916800.0));
  p = fma(p, r, all(1.0 / 3628800.0));
  p = fma(p, r, all(1.0 / 362880.0));
  p = fma(p, r, all(1.0 / 40320.0));
  p = fma(p, r, all(1.0 / 5040.0));
  p = fma(p, r, all(1.0 / 720.0));
  p = fma(p, r, all(1.0 / 120.0));
  p = fma(p, r, all(1.0 / 24.0));
  p = fma(p, r, all(1.0 / 6.0));
  p = fma(p, r, all(0.5));
  p = fma(p * r, r, r) + 1.0;
  const V power = (V)((k + 1023) << 52);
  return x < low ? V{} : p * power;
}

// 2^x for x up to 127; 2^-126 below that, and NaN stays NaN. Error below 1 ulp for float.
// (maskz: the plain intrinsics of GCC 12 warn of their own undefined operand.)
// Source: the minimax polynomial of degree 6 on [-1/2, 1/2], found by Remez' exchange (relative error 2e-9).
static inline Simd<float>::V exponential2(Simd<float>::V x) {
  using V = Simd<float>::V;
  const V low = all(-126.0f);
  x = x < low ? low : x;
#if defined(CLUSTERCL_ISA_avx512)
  const V whole = _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  using I = Simd<float>::I;
  const V magic = all(12582912.0f);
  const V shifted = x + magic;
  const V whole = shifted - magic;
#endif
  const V r = x - whole;
  V p = all(1.5345812006e-4f);
  p = fma(p, r, all(1.3399931219e-3f));
  p = fma(p, r, all(9.6184889571e-3f));
  p = fma(p, r, all(5.5503287770e-2f));
  p = fma(p, r, all(2.4022646891e-1f));
  p = fma(p, r, all(6.9314720574e-1f));
  p = fma(p, r, all(1.0f));
#if defined(CLUSTERCL_ISA_avx512)
  return _mm512_maskz_scalef_ps(0xffff, p, whole);
#else
  return p * (V)(((I)shifted - (I)magic + 127) << 23);
#endif
}

static inline Simd<double>::V exponential2(Simd<double>::V x) {
  return exponential((x < -1021.0 ? all(-1021.0) : x) * 0.69314718055994531);
}

}  // namespace clustercl::CLUSTERCL_ISA
