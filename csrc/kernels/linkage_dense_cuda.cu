// Average and complete linkage on CUDA: the rounds over a square matrix, both triangles, so that the distances of a cluster
// lie in one row; entries as in linkage_condensed.cpp: sums of distances in float64 or means in 32 bits, or largest ones.
//
// A union is written along its row and its column. Where two unions meet, their four entries are joined in the order in which
// the pairs would merge one after the other, by one block alone, so that the matrix stays symmetric to the last bit.
#include <type_traits>

#include "compact.h"
#include "linkage_join.h"
#include "linkage_rounds.cuh"

namespace clustercl {
namespace {

constexpr std::int64_t kRowBlocks = 2048;

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

template <class T>
__global__ void __launch_bounds__(kDistanceThreads)
    fill_kernel(Matrix<T> matrix, const double* rows, std::int64_t padded, Metric metric, double unit) {
  double* const shared = shared_memory<double>();
  const std::int64_t n = matrix.n, tiles = (n + kDistanceTile - 1) / kDistanceTile;
  const int i = threadIdx.x / kDistanceSide, j = threadIdx.x % kDistanceSide;
  for (std::int64_t task = blockIdx.x; task < tiles * tiles; task += gridDim.x) {
    const std::int64_t row = task / tiles * kDistanceTile, column = task % tiles * kDistanceTile;
    if (column < row) continue;
    double square[2][2];
    square_tile(
        square, [&](int k) { return row + k < n ? rows + (row + k) * padded : nullptr; },
        [&](int k) { return column + k < n ? rows + (column + k) * padded : nullptr; }, padded, shared);
    __syncthreads();
    for (int k = 0; k < 4; ++k) {
      const int r = i + kDistanceSide * (k / 2), c = j + kDistanceSide * (k % 2);
      const double distance = unit * finished(square[k / 2][k % 2], metric);
      if (row + r < n && column + c < n) pack(distance, matrix.at(row + r, column + c));
      shared[c * kDistanceStride + r] = distance;
    }
    __syncthreads();
    if (column == row) continue;
    for (int k = threadIdx.x; k < kDistanceTile * kDistanceTile; k += kDistanceThreads) {
      const int c = k / kDistanceTile, r = k % kDistanceTile;
      if (row + r < n && column + c < n) pack(shared[c * kDistanceStride + r], matrix.at(column + c, row + r));
    }
  }
}

// A warp per cluster and part of the columns: where few look, many warps share theirs, since a round then costs what it waits.
constexpr std::int64_t kScanWarps = kScanRows * kScanBlocks, kPartColumns = 128;

__host__ __device__ std::int64_t look_parts(std::int64_t wanted, std::int64_t count) {
  return parts_of(wanted, kScanWarps, (count + kPartColumns - 1) / kPartColumns);
}

template <class T>
__global__ void look_kernel(ScanCuda scan, Matrix<T> matrix, const std::int32_t* active) {
  constexpr int kAtOnce = 4;
  const std::int64_t wanted = scan.counts->wanted, count = scan.counts->columns, parts = look_parts(wanted, count);
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t task = blockIdx.x * kLinkageWarps + threadIdx.x / kWarp; task < wanted * parts;
       task += gridDim.x * kLinkageWarps) {
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

__global__ void look_tell_kernel(ScanCuda scan) {
  const std::int64_t wanted = scan.counts->wanted, parts = look_parts(wanted, scan.counts->columns);
  for (std::int64_t r = blockIdx.x * kLinkageWarps + threadIdx.x / kWarp; r < wanted; r += gridDim.x * kLinkageWarps)
    tell_parts(scan, scan.wanted[r], r, wanted, parts);
}

// A block per pair and part of the others.
template <class T>
__global__ void join_rows_kernel(RoundsCuda rounds, Matrix<T> matrix) {
  const std::int64_t count = rounds.counts->count, merges = rounds.counts->merges;
  const std::int32_t pairs = rounds.counts->pairs;
  const double* sizes = matrix.sizes;
  const std::int64_t parts = parts_of(pairs, kRowBlocks, (count + kDistanceThreads - 1) / kDistanceThreads);
  for (std::int64_t task = blockIdx.x; task < pairs * parts; task += gridDim.x) {
    const std::int64_t p = merges + task / parts, part = task % parts;
    const std::int32_t i = rounds.a[p], j = rounds.b[p];
    const double share = sizes[j] / (sizes[i] + sizes[j]);
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
      const double second_share = sizes[second_j] / (sizes[second_i] + sizes[second_j]);
      T out;
      pack(matrix.joined(matrix.joined(unpack(matrix.at(i, second_i)), unpack(matrix.at(j, second_i)), share),
                         matrix.joined(unpack(matrix.at(i, second_j)), unpack(matrix.at(j, second_j)), share), second_share),
           out);
      matrix.at(i, second_i) = matrix.at(second_i, i) = out;
    }
  }
}

template <class T>
class DenseCuda final : public SpaceCuda {
 public:
  explicit DenseCuda(const Matrix<T>& matrix) : matrix_(matrix) {}

  bool scan(const RoundsCuda& rounds, std::int64_t most, const Monitor&, std::int64_t, Launches& launches) override {
    const std::int64_t all = most * look_parts(1, most), warps = most > kScanWarps ? most : all < kScanWarps ? all : kScanWarps;
    launches.launch(look_kernel<T>, blocks_for(warps, kLinkageWarps, kRowBlocks), kLinkageThreads, 0, rounds.scan, matrix_,
                    static_cast<const std::int32_t*>(rounds.active));
    launches.launch(look_tell_kernel, blocks_for(most, kLinkageWarps, kRowBlocks), kLinkageThreads, 0, rounds.scan);
    return true;
  }
  void join(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    const std::int64_t parts = (most + kDistanceThreads - 1) / kDistanceThreads;
    launches.launch(join_rows_kernel<T>, blocks_for(most / 2 * parts, 1, kRowBlocks), kDistanceThreads, 0, rounds, matrix_);
  }
  void repair(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    launches.launch(repair_kernel<MatrixDistances<T>>, blocks_for(most, kLinkageWarps, 1 << 16), kLinkageThreads, 0, rounds,
                    MatrixDistances<T>{matrix_});
  }

 private:
  Matrix<T> matrix_;
};

template <class T>
bool merge(const RoundsCuda& rounds, const LinkageCuda& in, void* entries, double unit, const Monitor& monitor, Launches& launches) {
  const Join means = std::is_same_v<T, double> ? Join::sum : Join::mean;
  const Matrix<T> matrix{static_cast<T*>(entries), in.n, in.method == Linkage::average ? means : Join::largest,
                         rounds.scan.clusters.sizes};
  const std::int64_t tiles = (in.n + kDistanceTile - 1) / kDistanceTile;
  launches.launch(fill_kernel<T>, blocks_for(tiles * tiles, 1, kRowBlocks), kDistanceThreads, sizeof(double) * kDistanceShared,
                  matrix, static_cast<const double*>(rounds.scan.clusters.rows), in.padded, in.metric, unit);
  monitor.effort.distances += in.n * (in.n - 1) / 2;
  DenseCuda<T> space(matrix);
  return merge_by_rounds_cuda(space, rounds, monitor, launches);
}

}  // namespace

bool merge_dense_cuda(const RoundsCuda& rounds, const LinkageCuda& in, void* entries, double unit, const Monitor& monitor,
                      Launches& launches) {
  const auto run = in.entries == Entries::half ? merge<Compact> : merge<double>;
  return run(rounds, in, entries, unit, monitor, launches);
}

}  // namespace clustercl
