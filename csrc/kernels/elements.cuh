// Numbers of every type that rows come in, as what they are summed in, and back.
#pragma once

#include "common.cuh"

namespace clustercl {

struct Half {
  std::uint16_t bits;
};
struct BFloat {
  std::uint16_t bits;
};

__device__ inline float read(const Half& x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16, rest = x.bits & 0x7fffu;
  if (rest >= 0x7c00u) return as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // A number of the smaller exponent, denormal or not, times 2^112.
  return as_float(sign | as_bits(as_float(rest << 13) * 0x1p112f));
}
__device__ inline float read(const BFloat& x) { return of_bf16(x.bits); }
__device__ inline float read(float x) { return x; }
__device__ inline double read(double x) { return x; }

__device__ inline void write(float x, std::uint16_t& out) { out = to_bf16(x); }
__device__ inline void write(float x, float& out) { out = x; }
__device__ inline void write(double x, double& out) { out = x; }

// A warp: the power of two that brings the largest of d elements to 1/2 .. 1, in two factors since it may itself be inf; 1 for
// a row of zeros, largest 0.
template <class Sum>
struct RowRange {
  Sum largest = 0, half, rest;

  template <class Source>
  __device__ RowRange(const Source* row, std::int64_t d) {
    for (std::int64_t f = threadIdx.x % kWarp; f < d; f += kWarp) largest = fmax(largest, fabs(read(row[f])));
    find();
  }
  // own: the largest of the lane's elements, without their signs.
  __device__ explicit RowRange(Sum own) : largest(own) { find(); }

 private:
  __device__ void find() {
    for (int other = kWarp / 2; other > 0; other /= 2) largest = fmax(largest, shuffle_xor(largest, other));
    int exponent = 0;
    if (largest > 0) frexp(largest, &exponent);
    half = ldexp(Sum{1}, -exponent / 2);
    rest = ldexp(Sum{1}, -exponent + exponent / 2);
  }
};

}  // namespace clustercl
