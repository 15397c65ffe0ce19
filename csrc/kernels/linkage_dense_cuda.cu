// Average and complete linkage on CUDA: the rounds over a square matrix (linkage_dense.cuh).
#include <algorithm>
#include <type_traits>

#include "linkage_dense.cuh"
#include "linkage_together.cuh"

namespace clustercl {
namespace {

constexpr std::int64_t kFew = few_clusters(4096);
constexpr std::int64_t kPatience = 16;

// Tiles of kFillTile clusters against as many, of which a thread has kFillEach times kFillEach. Sums are of one difference after the
// other, unlike those of distances.cuh, whose eight of each distance leave no registers for more than four distances a thread: here
// 16 share what is read from shared memory. Heights agree with the CPU's to rounding, and whole numbers are exact in any order.
constexpr int kFillSide = 16, kFillEach = 4, kFillTile = kFillSide * kFillEach, kFillFeatures = 32;
constexpr int kFillStride = kFillFeatures + 1, kFillOutStride = kFillTile + 1;
constexpr int kFillShared = std::max(2 * kFillTile * kFillStride, kFillTile * kFillOutStride);  // doubles

template <class T>
__global__ void __launch_bounds__(kFillSide * kFillSide, 3)
    fill_kernel(Matrix<T> matrix, const double* rows, std::int64_t padded, Metric metric, double unit) {
  double* const shared = shared_memory<double>();
  const std::int64_t n = matrix.n, tiles = (n + kFillTile - 1) / kFillTile;
  const int i = threadIdx.x / kFillSide, j = threadIdx.x % kFillSide;
  for (std::int64_t task = blockIdx.x; task < tiles * tiles; task += gridDim.x) {
    const std::int64_t row = task / tiles * kFillTile, column = task % tiles * kFillTile;
    if (column < row) continue;
    double square[kFillEach][kFillEach] = {};
    for (std::int64_t from = 0; from < padded; from += kFillFeatures) {
      __syncthreads();
      for (int at = threadIdx.x; at < 2 * kFillTile * kFillFeatures; at += kFillSide * kFillSide) {
        const int k = at / kFillFeatures, f = at % kFillFeatures;
        const std::int64_t own = k < kFillTile ? row + k : column + k - kFillTile;
        shared[k * kFillStride + f] = own < n && from + f < padded ? rows[own * padded + from + f] : 0.0;
      }
      __syncthreads();
      const double *const x = shared + i * kFillStride, *const y = shared + (kFillTile + j) * kFillStride;
      for (int f = 0; f < kFillFeatures; ++f) {
        double a[kFillEach], b[kFillEach];
#pragma unroll
        for (int k = 0; k < kFillEach; ++k) {
          a[k] = x[k * kFillSide * kFillStride + f];
          b[k] = y[k * kFillSide * kFillStride + f];
        }
#pragma unroll
        for (int k = 0; k < kFillEach * kFillEach; ++k) {
          const double difference = a[k / kFillEach] - b[k % kFillEach];
          square[k / kFillEach][k % kFillEach] = fma(difference, difference, square[k / kFillEach][k % kFillEach]);
        }
      }
    }
    __syncthreads();
    for (int k = 0; k < kFillEach * kFillEach; ++k) {
      const int r = i + kFillSide * (k / kFillEach), c = j + kFillSide * (k % kFillEach);
      const double distance = unit * finished(square[k / kFillEach][k % kFillEach], metric);
      if (row + r < n && column + c < n) pack(distance, matrix.at(row + r, column + c));
      shared[c * kFillOutStride + r] = distance;
    }
    __syncthreads();
    if (column == row) continue;
    for (int k = threadIdx.x; k < kFillTile * kFillTile; k += kFillSide * kFillSide) {
      const int c = k / kFillTile, r = k % kFillTile;
      if (row + r < n && column + c < n) pack(shared[c * kFillOutStride + r], matrix.at(column + c, row + r));
    }
  }
}

template <class T>
__global__ void look_kernel(ScanCuda scan, Matrix<T> matrix, const std::int32_t* active) {
  look(scan, matrix, active);
}

__global__ void look_tell_kernel(ScanCuda scan) { look_tell(scan); }

template <class T>
__global__ void __launch_bounds__(kTilePairs * kWarp, 3) join_kernel(RoundsCuda rounds, Matrix<T> matrix) {
  join_tiles(rounds, matrix);
  list_left(rounds);
  close_round(rounds);
}

template <class T>
class DenseCuda final : public SpaceCuda {
 public:
  explicit DenseCuda(const Matrix<T>& matrix) : matrix_(matrix) {}

  bool rounds_together(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    if (most > kFew) return false;
    using Space = DenseSpace<T>;
    // A warp for each cluster: more would meet more slowly.
    return launches.launch_together(rounds_together_kernel<Space>, blocks_for(most, Space::kThreads / kWarp, kSurveyBlocks),
                                    Space::kThreads, survey_bytes(Space::kThreads), rounds, Space{matrix_});
  }
  bool scan(const RoundsCuda& rounds, std::int64_t most, const Monitor&, std::int64_t, Launches& launches) override {
    const std::int64_t all = most * look_parts(1, most), warps = most > kScanWarps ? most : all < kScanWarps ? all : kScanWarps;
    launches.launch(look_kernel<T>, blocks_for(warps, kLinkageWarps, kRowBlocks), kLinkageThreads, 0, rounds.scan, matrix_,
                    static_cast<const std::int32_t*>(rounds.active));
    launches.launch(look_tell_kernel, blocks_for(most, kLinkageWarps, kRowBlocks), kLinkageThreads, 0, rounds.scan);
    return true;
  }
  void join(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    const std::int64_t warps = most / 2 > kJoinWarps ? most / 2 : kJoinWarps;
    launches.launch(join_kernel<T>, blocks_for(warps, kTilePairs, kRowBlocks), kTilePairs * kWarp, sizeof(JoinTile<T>), rounds,
                    matrix_);
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
  const std::int64_t tiles = (in.n + kFillTile - 1) / kFillTile;
  launches.launch(fill_kernel<T>, blocks_for(tiles * tiles, 1, kRowBlocks), kFillSide * kFillSide, sizeof(double) * kFillShared,
                  matrix, static_cast<const double*>(rounds.scan.clusters.rows), in.padded, in.metric, unit);
  monitor.effort.distances += in.n * (in.n - 1) / 2;
  DenseCuda<T> space(matrix);
  RoundsCuda patient = rounds;
  patient.patience = kPatience;
  return merge_by_rounds_cuda(space, patient, monitor, launches);
}

}  // namespace

bool merge_dense_cuda(const RoundsCuda& rounds, const LinkageCuda& in, void* entries, double unit, const Monitor& monitor,
                      Launches& launches) {
  const auto run = in.entries == Entries::half ? merge<Compact> : merge<double>;
  return run(rounds, in, entries, unit, monitor, launches);
}

}  // namespace clustercl
