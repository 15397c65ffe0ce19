// What the screens of linkage_screen_cuda.cu and linkage_hopper_cuda.cu share: the numbers of a cluster beside its elements.
#pragma once

#include "linkage_cuda.cuh"

namespace clustercl {

// N of a cluster of which the elements are multiplied in float16; linkage_screen_cuda.cu explains it.
__device__ inline double norm_f16(double square, double d) {
  return (1 - 0x1p-10 - (2 * d + 64) * 0x1p-23) * square - 0x1p-23 * sqrt(d * square);
}

struct ScreenRow {
  float norm, inverse;
};
__device__ inline ScreenRow screen_row(double norm, double size) {
  return {static_cast<float>(norm - 1e-36), static_cast<float>(1 / size)};
}

}  // namespace clustercl
