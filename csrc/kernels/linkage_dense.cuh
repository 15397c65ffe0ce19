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

constexpr std::int64_t kRowBlocks = 2048;

// A warp per cluster and part of the columns: where few look, many warps share theirs, since a round then costs what it waits.
// The host executor has few clusters: one warp for many of them, and more parts than a warp has lanes, are to come about.
#if defined(CLUSTERCL_SIMT)
constexpr std::int64_t kScanWarps = 280, kPartColumns = 1, kJoinWarps = 64;
#else
constexpr std::int64_t kScanWarps = kScanRows * kScanBlocks, kPartColumns = 128, kJoinWarps = 8192;
#endif

__host__ __device__ inline std::int64_t look_parts(std::int64_t wanted, std::int64_t count) {
  return parts_of(wanted, kScanWarps, (count + kPartColumns - 1) / kPartColumns);
}

// List `at` of what a warp saw.
__device__ inline void put_list(const PartLists& lists, std::int64_t at, const WarpFew<double>& few) {
  const int lane = threadIdx.x % kWarp;
  if (lane >= kCandidates) return;
  lists.distance[at * kCandidates + lane] = few.distance;
  lists.id[at * kCandidates + lane] = few.id;
}

template <class T>
__device__ void look(const ScanCuda& scan, const Matrix<T>& matrix, const std::int32_t* active) {
  constexpr int kAtOnce = 8;
  const std::int64_t wanted = scan.counts->wanted, count = scan.counts->columns, parts = look_parts(wanted, count);
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t task = first_of_launch() / kWarp; task < wanted * parts; task += threads_of_launch() / kWarp) {
    const std::int64_t r = task % wanted, part = task / wanted, end = count * (part + 1) / parts;
    const std::int32_t a = scan.wanted[r];
    WarpFew<double> few;
    for (std::int64_t begin = count * part / parts; begin < end; begin += kAtOnce * kWarp) {
      std::int32_t b[kAtOnce];
      double distance[kAtOnce];
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e) {
        const std::int64_t k = begin + e * kWarp + lane;
        b[e] = k < end ? active[k] : -1;
        if (b[e] == a) b[e] = -1;
      }
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e) distance[e] = b[e] >= 0 ? matrix.distance(a, b[e]) : static_cast<double>(INFINITY);
#pragma unroll
      for (int e = 0; e < kAtOnce; ++e) few.offer(distance[e], b[e]);
    }
    put_list(scan.lists, part * wanted + r, few);
  }
}

__device__ inline void look_tell(const ScanCuda& scan) {
  const std::int64_t wanted = scan.counts->wanted, parts = look_parts(wanted, scan.counts->columns);
  for (std::int64_t r = first_of_launch() / kWarp; r < wanted; r += threads_of_launch() / kWarp)
    tell_parts(scan, scan.wanted[r], r, wanted, parts);
}

// A warp joins the rows of a pair and looks, a part of the others at a time. A union is written along its row, and along its column
// where the other does not merge. Where two unions meet, their four entries are joined in the order in which the pairs would merge
// one after the other, in the row of either, so that the matrix stays symmetric to the last bit.
template <class T>
struct Union {
  static constexpr int kAtOnce = 4, kOthers = kAtOnce * kWarp;
  const RoundsCuda& rounds;
  const Matrix<T>& matrix;
  std::int32_t merges, p, i, j;
  double share, weight;
  WarpFew<double> few;

  __device__ Union(const RoundsCuda& all, const Matrix<T>& entries, std::int32_t pair)
      : rounds(all), matrix(entries), merges(all.counts->merges), p(pair), i(all.a[merges + p]), j(all.b[merges + p]),
        share(all.share[merges + p]), weight(entries.weight(i)) {}

  // With kOthers clusters from place `begin` on, before `end`: lane's e-th is other[e] (-1: none, or it merges), its entry out[e].
  __device__ void join(std::int32_t begin, std::int32_t end, std::int32_t (&other)[kAtOnce], T (&out)[kAtOnce]) {
    double distance[kAtOnce];
    const std::int32_t* const active = rounds.active + begin + threadIdx.x % kWarp;
    const int left = end - begin - static_cast<int>(threadIdx.x % kWarp);
    T *const row_i = &matrix.at(i, 0), *const row_j = &matrix.at(j, 0);
#pragma unroll
    for (int e = 0; e < kAtOnce; ++e) other[e] = e * kWarp < left ? active[e * kWarp] : -1;
    // Of those that merge as well, so that no read waits for another.
    T of_i[kAtOnce] = {}, of_j[kAtOnce] = {};
    bool stays[kAtOnce];
#pragma unroll
    for (int e = 0; e < kAtOnce; ++e) {
      stays[e] = other[e] >= 0 && rounds.into[other[e]] >= 0;
      distance[e] = other[e] >= 0 ? matrix.weight(other[e]) : 1.0;
      if (other[e] < 0) continue;
      of_i[e] = row_i[other[e]];
      of_j[e] = row_j[other[e]];
    }
#pragma unroll
    for (int e = 0; e < kAtOnce; ++e) {
      pack(matrix.joined(unpack(of_i[e]), unpack(of_j[e]), share), out[e]);
      distance[e] = unpack(out[e]) / (weight * distance[e]);
      if (stays[e]) row_i[other[e]] = out[e];
      else other[e] = -1;
    }
#pragma unroll
    for (int e = 0; e < kAtOnce; ++e) few.offer(distance[e], other[e]);
  }

  // With the unions of pairs [begin, end).
  __device__ void meet(std::int32_t begin, std::int32_t end) {
    for (; begin < end; begin += kWarp) {
      const std::int32_t k = begin + static_cast<std::int32_t>(threadIdx.x % kWarp);
      const bool meets = k < end && k != p;
      std::int32_t a = -1;
      double distance = 0;
      if (meets) {
        a = rounds.a[merges + k];
        const std::int32_t b = rounds.b[merges + k];
        const double theirs = rounds.share[merges + k];
        const double ia = unpack(matrix.at(i, a)), ib = unpack(matrix.at(i, b));
        const double ja = unpack(matrix.at(j, a)), jb = unpack(matrix.at(j, b));
        T out;
        pack(i < a ? matrix.joined(matrix.joined(ia, ja, share), matrix.joined(ib, jb, share), theirs)
                   : matrix.joined(matrix.joined(ia, ib, theirs), matrix.joined(ja, jb, theirs), share),
             out);
        matrix.at(i, a) = out;
        distance = unpack(out) / (weight * matrix.weight(a));
      }
      few.offer(distance, a);
    }
  }
};

__host__ __device__ inline std::int64_t join_parts(std::int64_t pairs, std::int64_t count) {
  const std::int64_t most = (count + kWarp - 1) / kWarp;
  return parts_of(pairs, kJoinWarps, most < kWarp ? most : kWarp);
}

// Part `part` of `parts` of `whole`: where it begins; it ends where the next begins.
__device__ inline std::int32_t part_begin(std::int32_t whole, std::int32_t part, std::int32_t parts) {
  return static_cast<std::int32_t>(static_cast<std::int64_t>(whole) * part / parts);
}

// A warp per pair and part.
template <class T>
__device__ void join_rows(const RoundsCuda& rounds, const Matrix<T>& matrix) {
  using Of = Union<T>;
  const std::int32_t count = rounds.counts->count, pairs = rounds.counts->pairs;
  const auto parts = static_cast<std::int32_t>(join_parts(pairs, count));
  for (std::int64_t task = first_of_launch() / kWarp; task < std::int64_t{pairs} * parts; task += threads_of_launch() / kWarp) {
    const auto p = static_cast<std::int32_t>(task % pairs), part = static_cast<std::int32_t>(task / pairs);
    const std::int32_t end = part_begin(count, part + 1, parts);
    Of own(rounds, matrix, p);
    for (std::int32_t begin = part_begin(count, part, parts); begin < end; begin += Of::kOthers) {
      std::int32_t other[Of::kAtOnce];
      T out[Of::kAtOnce];
      own.join(begin, end, other, out);
#pragma unroll
      for (int e = 0; e < Of::kAtOnce; ++e)
        if (other[e] >= 0) matrix.at(other[e], own.i) = out[e];
    }
    own.meet(part_begin(pairs, part, parts), part_begin(pairs, part + 1, parts));
    put_list(rounds.scan.lists, std::int64_t{part} * pairs + p, own.few);
  }
}

// A warp per pair and part, kTilePairs pairs to a block: columns are written by way of shared memory, so that what a warp writes lies
// in few rows of the matrix, and in each close together, as pairs that follow each other mostly do.
#if defined(CLUSTERCL_SIMT)
constexpr int kTilePairs = 4;
#else
constexpr int kTilePairs = 8;
#endif

template <class T>
struct JoinTile {
  static constexpr int kStride = Union<T>::kOthers + 1;
  T entries[kTilePairs * kStride];
  std::int32_t others[Union<T>::kOthers], unions[kTilePairs];
};

template <class T>
__device__ void join_tiles(const RoundsCuda& rounds, const Matrix<T>& matrix) {
  using Of = Union<T>;
  constexpr int kStride = JoinTile<T>::kStride;
  JoinTile<T>& tile = *shared_memory<JoinTile<T>>();
  const std::int32_t count = rounds.counts->count, pairs = rounds.counts->pairs;
  const auto parts = static_cast<std::int32_t>(join_parts(pairs, count));
  const std::int32_t groups = (pairs + kTilePairs - 1) / kTilePairs;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (std::int64_t task = blockIdx.x; task < std::int64_t{groups} * parts; task += gridDim.x) {
    const auto group = static_cast<std::int32_t>(task % groups), part = static_cast<std::int32_t>(task / groups);
    const std::int32_t p = group * kTilePairs + warp, end = part_begin(count, part + 1, parts);
    const bool there = p < pairs;
    Of own(rounds, matrix, there ? p : pairs - 1);
    for (std::int32_t begin = part_begin(count, part, parts); begin < end; begin += Of::kOthers) {
      std::int32_t other[Of::kAtOnce];
      T out[Of::kAtOnce];
      if (there) own.join(begin, end, other, out);
      __syncthreads();  // the last tile has been written
      if (lane == 0) tile.unions[warp] = there ? own.i : -1;
#pragma unroll
      for (int e = 0; e < Of::kAtOnce; ++e) {
        if (there) tile.entries[warp * kStride + e * kWarp + lane] = out[e];
        if (warp == 0) tile.others[e * kWarp + lane] = other[e];
      }
      __syncthreads();
      for (int k = threadIdx.x; k < kTilePairs * Of::kOthers; k += kTilePairs * kWarp) {
        const std::int32_t to = tile.others[k / kTilePairs], of = tile.unions[k % kTilePairs];
        if (to >= 0 && of >= 0) matrix.at(to, of) = tile.entries[k % kTilePairs * kStride + k / kTilePairs];
      }
    }
    if (!there) continue;
    own.meet(part_begin(pairs, part, parts), part_begin(pairs, part + 1, parts));
    put_list(rounds.scan.lists, std::int64_t{part} * pairs + p, own.few);
  }
}

template <class T>
struct MatrixDistances {
  static constexpr bool kUnionsLook = true;
  Matrix<T> matrix;
  __device__ double operator()(std::int64_t a, std::int32_t b, int) const {
    return b < 0 ? static_cast<double>(INFINITY) : matrix.distance(a, b);
  }
  // A warp; returns the union's survey.
  __device__ Survey tell_union(const RoundsCuda& rounds, std::int64_t p) const {
    const std::int64_t pairs = rounds.counts->pairs;
    const std::int32_t a = rounds.a[rounds.counts->merges + p];
    const Nearest nearest = tell_parts(rounds.scan, a, p, pairs, join_parts(pairs, rounds.counts->count));
    return nearest.id < 0 ? of_unknown(a, nearest.bound) : of_known(a, static_cast<std::int32_t>(nearest.id), nearest.distance);
  }
};

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
  __device__ void join(const RoundsCuda& rounds) const { join_rows(rounds, matrix); }
  __device__ MatrixDistances<T> distances() const { return {matrix}; }
};

}  // namespace clustercl
