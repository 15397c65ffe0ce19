// One distance or one norm by one thread, with the very bits of pairwise_cpu.cpp: what each CUDA thread of pairwise_cuda.cu
// runs, written so that the host compiler takes it too and a test without a GPU can run it.
//
// Eight lane sums take the features l, l + 8, ... in order with one fma each and are added as double8.h does:
// ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7)). Rows hold `padded` doubles, zeros behind the last feature.
#pragma once

#include <cmath>
#include <cstdint>

#include "pairwise.h"

#if defined(__CUDACC__)
#define CLUSTERCL_HOST_DEVICE __host__ __device__
#else
#define CLUSTERCL_HOST_DEVICE
#endif

namespace clustercl {

struct Lanes {
  double sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};

  CLUSTERCL_HOST_DEVICE double total() const {
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
  }
};

CLUSTERCL_HOST_DEVICE inline double row_distance(const double* x, const double* y, std::int64_t padded, Metric metric) {
  Lanes lanes;
  for (std::int64_t f = 0; f < padded; f += 8)
    for (int lane = 0; lane < 8; ++lane) {
      const double difference = x[f + lane] - y[f + lane];
      lanes.sum[lane] = fma(difference, difference, lanes.sum[lane]);
    }
  const double square = lanes.total();
  return metric == Metric::sqeuclidean ? square : metric == Metric::euclidean ? sqrt(square) : 0.5 * square;
}

// Divides the row by its norm, in place; false, and the row untouched, when its norm is 0.
CLUSTERCL_HOST_DEVICE inline bool normalize_row(double* row, std::int64_t padded) {
  double largest = 0.0;
  for (std::int64_t f = 0; f < padded; ++f) largest = fmax(largest, fabs(row[f]));
  if (largest == 0.0) return false;
  int exponent;
  frexp(largest, &exponent);
  Lanes lanes;
  for (std::int64_t f = 0; f < padded; f += 8)
    for (int lane = 0; lane < 8; ++lane) {
      row[f + lane] = ldexp(row[f + lane], -exponent);
      lanes.sum[lane] = fma(row[f + lane], row[f + lane], lanes.sum[lane]);
    }
  const double norm = sqrt(lanes.total());
  for (std::int64_t f = 0; f < padded; ++f) row[f] = row[f] / norm;
  return true;
}

}  // namespace clustercl
