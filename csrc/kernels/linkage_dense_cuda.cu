// Average and complete linkage on CUDA: the rounds over a square matrix (linkage_dense.cuh).
#include <type_traits>

#include "linkage_distances.cuh"
#include "linkage_together.cuh"

namespace clustercl {
namespace {

constexpr std::int64_t kFew = few_clusters(4096);
constexpr std::int64_t kPatience = 16;  // of 8 to 32, in a simulation of 20,000 rows: as few rounds, and fewer of them with scans

__global__ void norm_kernel(const double* rows, std::int64_t n, std::int64_t padded, double* norm) {
  fill_norms(rows, n, padded, norm);
}

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    fill_kernel(Matrix<T> matrix, const double* rows, const double* norm, std::int64_t padded, Metric metric, double unit) {
  fill_matrix(matrix, rows, norm, padded, metric, unit);
}

// x, added up `count` times one after the other.
__device__ double added_up(double x, double count) {
  double sum = x;
  for (double k = 1; k < count; ++k) sum = plus(sum, x);
  return sum;
}

// Rows that stand for several have as many distances to add up: in the CPU's order (linkage_condensed.cpp), over the smaller row
// first. Of distances that tie it decides which are equal as computed.
template <class T>
__global__ void weigh_kernel(Matrix<T> matrix, const std::int32_t* active, std::int64_t count) {
  for (std::int64_t r = blockIdx.x; r < count; r += gridDim.x)
    for (std::int64_t k = threadIdx.x; k < count; k += blockDim.x) {
      const std::int64_t i = active[r < k ? r : k], j = active[r < k ? k : r];  // `active` ascends
      T& entry = matrix.at(active[r], active[k]);
      pack(added_up(added_up(unpack(entry), matrix.weight(i)), matrix.weight(j)), entry);
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
bool merge(const RoundsCuda& rounds, const Distinct& distinct, const LinkageCuda& in, void* entries, double unit, const Monitor& monitor,
           Launches& launches) {
  const Join means = std::is_same_v<T, double> ? Join::sum : Join::mean;
  const Matrix<T> matrix{static_cast<T*>(entries), in.n, in.method == Linkage::average ? means : Join::largest,
                         rounds.scan.clusters.sizes};
  const double* const rows = rounds.scan.clusters.rows;
  double* const norm = rounds.scan.clusters.bound;  // nobody's before begin_rounds_cuda
  launches.launch(norm_kernel, blocks_for(in.n, kLinkageThreads, kRowBlocks), kLinkageThreads, 0, rows, in.n, in.padded, norm);
  const std::int64_t tiles = (in.n + kTile - 1) / kTile;
  launches.launch(fill_kernel<T>, blocks_for(tiles * tiles, 1, kRowBlocks), kTileThreads, sizeof(double) * kFillShared, matrix, rows,
                  static_cast<const double*>(norm), in.padded, in.metric, unit);
  monitor.effort.distances += in.n * (in.n - 1) / 2;
  begin_rounds_cuda(rounds, distinct, launches);
  const std::int64_t clusters = count_of(distinct, in.n);
  if (distinct.some() && matrix.join == Join::sum)
    launches.launch(weigh_kernel<T>, blocks_for(clusters, 1, kRowBlocks), kLinkageThreads, 0, matrix,
                    static_cast<const std::int32_t*>(rounds.active), clusters);
  DenseCuda<T> space(matrix);
  RoundsCuda patient = rounds;
  patient.patience = kPatience;
  return merge_by_rounds_cuda(space, patient, clusters, monitor, launches);
}

}  // namespace

bool merge_dense_cuda(const RoundsCuda& rounds, const Distinct& distinct, const LinkageCuda& in, void* entries, double unit,
                      const Monitor& monitor, Launches& launches) {
  const auto run = in.entries == Entries::half ? merge<Compact> : merge<double>;
  return run(rounds, distinct, in, entries, unit, monitor, launches);
}

}  // namespace clustercl
