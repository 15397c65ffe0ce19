// A square matrix of distances on CUDA, both triangles, so that the distances of a cluster lie in one row, and what a round does
// with it; entries as in linkage_condensed.cpp: sums of distances in float64 or means in 32 bits, or largest ones. Each step for
// all threads of a launch, as in linkage_steps.cuh.
#pragma once

#include "compact.h"
#include "linkage_join.h"
#include "linkage_steps.cuh"

namespace clustercl {

template <class T>
struct Matrix {
  T* entries;
  std::int64_t n;
  Join join;
  const double* sizes;

  __device__ T& at(std::int64_t i, std::int64_t j) const { return entries[i * n + j]; }
  __device__ double weight(std::int64_t i) const { return join == Join::sum ? sizes[i] : 1.0; }
  __device__ double distance(std::int64_t i, std::int64_t j) const { return unpack(at(i, j)) / (weight(i) * weight(j)); }
  __device__ double joined(double x, double y, double share) const {
    if (join == Join::sum) return plus(x, y);
    if (join == Join::mean) return plus(x, times(share, y - x));
    return x < y ? y : x;
  }
};

template <class T>
struct MatrixDistances {
  Matrix<T> matrix;
  __device__ double operator()(std::int64_t a, std::int32_t b, int) const {
    return b < 0 ? static_cast<double>(INFINITY) : matrix.distance(a, b);
  }
};

constexpr std::int64_t kRowBlocks = 2048;

// A warp per cluster and part of the columns: where few look, many warps share theirs, since a round then costs what it waits.
constexpr std::int64_t kScanWarps = kScanRows * kScanBlocks, kPartColumns = 128;

__host__ __device__ inline std::int64_t look_parts(std::int64_t wanted, std::int64_t count) {
  return parts_of(wanted, kScanWarps, (count + kPartColumns - 1) / kPartColumns);
}

template <class T>
__device__ void look(const ScanCuda& scan, const Matrix<T>& matrix, const std::int32_t* active) {
  constexpr int kAtOnce = 4;
  const std::int64_t wanted = scan.counts->wanted, count = scan.counts->columns, parts = look_parts(wanted, count);
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t task = first_of_launch() / kWarp; task < wanted * parts; task += threads_of_launch() / kWarp) {
    const std::int64_t r = task % wanted, part = task / wanted, end = count * (part + 1) / parts;
    const std::int32_t a = scan.wanted[r];
    NearestFew<double> list;
    for (std::int64_t k = count * part / parts + lane; k < end; k += kAtOnce * kWarp) {
      std::int32_t b[kAtOnce];
      double distance[kAtOnce];
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e) b[e] = k + e * kWarp < end ? active[k + e * kWarp] : a;
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e) distance[e] = b[e] != a ? matrix.distance(a, b[e]) : static_cast<double>(INFINITY);
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e)
        if (b[e] != a) list.insert(distance[e], b[e]);
    }
    put_together(list, kWarp, [&](int k, double distance, std::int32_t b) {
      if (lane != k) return;
      scan.lists.distance[(part * wanted + r) * kCandidates + k] = distance;
      scan.lists.id[(part * wanted + r) * kCandidates + k] = b;
    });
  }
}

__device__ inline void look_tell(const ScanCuda& scan) {
  const std::int64_t wanted = scan.counts->wanted, parts = look_parts(wanted, scan.counts->columns);
  for (std::int64_t r = first_of_launch() / kWarp; r < wanted; r += threads_of_launch() / kWarp)
    tell_parts(scan, scan.wanted[r], r, wanted, parts);
}

// A block per pair and part of the others. A union is written along its row and its column. Where two unions meet, their four
// entries are joined in the order in which the pairs would merge one after the other, by one block alone, so that the matrix
// stays symmetric to the last bit.
template <class T>
__device__ void join_rows(const RoundsCuda& rounds, const Matrix<T>& matrix) {
  const std::int64_t count = rounds.counts->count, merges = rounds.counts->merges;
  const std::int32_t pairs = rounds.counts->pairs;
  const std::int64_t parts = parts_of(pairs, kRowBlocks, (count + blockDim.x - 1) / blockDim.x);
  for (std::int64_t task = blockIdx.x; task < pairs * parts; task += gridDim.x) {
    const std::int64_t p = merges + task / parts, part = task % parts;
    const std::int32_t i = rounds.a[p], j = rounds.b[p];
    const double share = rounds.share[p];
    const auto begin = [&](std::int64_t whole, std::int64_t k) { return whole * k / parts; };
    for (std::int64_t k = begin(count, part) + threadIdx.x; k < begin(count, part + 1); k += blockDim.x) {
      const std::int32_t other = rounds.active[k];
      if (rounds.into[other] < 0) continue;
      T out;
      pack(matrix.joined(unpack(matrix.at(i, other)), unpack(matrix.at(j, other)), share), out);
      matrix.at(i, other) = matrix.at(other, i) = out;
    }
    for (std::int64_t k = begin(pairs, part) + threadIdx.x; k < begin(pairs, part + 1); k += blockDim.x) {
      const std::int32_t second_i = rounds.a[merges + k], second_j = rounds.b[merges + k];
      if (second_i <= i) continue;
      T out;
      pack(matrix.joined(matrix.joined(unpack(matrix.at(i, second_i)), unpack(matrix.at(j, second_i)), share),
                         matrix.joined(unpack(matrix.at(i, second_j)), unpack(matrix.at(j, second_j)), share),
                         rounds.share[merges + k]),
           out);
      matrix.at(i, second_i) = matrix.at(second_i, i) = out;
    }
  }
}

// The matrix as linkage_together.cuh wants it.
template <class T>
struct DenseSpace {
#if defined(CLUSTERCL_SIMT)
  static constexpr int kThreads = 128;
#else
  static constexpr int kThreads = 512;
#endif
  Matrix<T> matrix;

  template <class Wait>
  __device__ void scan(const RoundsCuda& rounds, const Wait& wait) const {
    look(rounds.scan, matrix, rounds.active);
    wait();
    look_tell(rounds.scan);
  }
  __device__ void join(const RoundsCuda& rounds) const {
    join_rows(rounds, matrix);
    for (std::int64_t p = first_of_launch(); p < rounds.counts->pairs; p += threads_of_launch()) settle(rounds, p);
  }
  __device__ MatrixDistances<T> distances() const { return {matrix}; }
};

}  // namespace clustercl
