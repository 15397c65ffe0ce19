// Ward's linkage on CUDA: the rounds over centroids and sizes.
#include <algorithm>

#include "linkage_exact.cuh"
#include "linkage_together.cuh"

namespace clustercl {
namespace {

// Asked for after a round has settled, so that centroids and sizes are those of the unions.
struct WardDistances {
  static constexpr bool kUnionsLook = false;
  ClustersCuda c;
  __device__ double operator()(std::int64_t a, std::int32_t b, int count) const {
    const double square = candidate_squares(c.rows, c.padded, a, b, count);
    return b < 0 ? static_cast<double>(INFINITY) : ward(c.sizes[a], c.sizes[b], square);
  }
};

// A block per pair, threads along the features.
__device__ void join_centroids(const RoundsCuda& rounds) {
  const ClustersCuda& c = rounds.scan.clusters;
  const std::int64_t merges = rounds.counts->merges, pairs = rounds.counts->pairs;
  for (std::int64_t p = blockIdx.x; p < pairs; p += gridDim.x) {
    const std::int32_t a = rounds.a[merges + p], b = rounds.b[merges + p];
    const double size = c.sizes[a], size_b = c.sizes[b], size_a = size - size_b;
    double* x = c.rows + a * c.padded;
    const double* y = c.rows + b * c.padded;
    // Equal rows stay what they are, to the last bit: duplicates merge at height 0 however many there are.
    for (std::int64_t f = threadIdx.x; f < c.padded; f += blockDim.x)
      if (x[f] != y[f]) x[f] = plus(times(size_a, x[f]), times(size_b, y[f])) / size;
    if (threadIdx.x == 0) settle(rounds, p);
  }
}

__global__ void join_kernel(RoundsCuda rounds) {
  join_centroids(rounds);
  list_left(rounds);
  close_round(rounds);
}

// As linkage_together.cuh wants it, for so few clusters that no screen would be used, and so few features that users who stop wait
// for fractions of a second.
struct WardSpace {
  static constexpr int kThreads = kDistanceThreads;
  static constexpr std::int64_t kMostFeatures = std::int64_t{1} << 33;  // of pairs of clusters
  static constexpr std::size_t kShared = std::max<std::size_t>(survey_bytes(kThreads), sizeof(double) * kDistanceShared);
  ClustersCuda c;

  template <class Wait>
  __device__ void scan(const RoundsCuda& rounds, const Wait& wait) const {
    exact_scan(rounds.scan, rounds.active, 0, INT64_MAX);
    wait();
    exact_tell(rounds.scan);
  }
  __device__ void join(const RoundsCuda& rounds) const { join_centroids(rounds); }
  __device__ WardDistances distances() const { return {c}; }
};

class WardCuda final : public SpaceCuda {
 public:
  bool rounds_together(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    if (most > few_clusters(rounds.scan.screen_columns - 1) || most * most * rounds.scan.clusters.padded > WardSpace::kMostFeatures)
      return false;
    return launches.launch_together(rounds_together_kernel<WardSpace>, kSurveyBlocks, WardSpace::kThreads, WardSpace::kShared,
                                    rounds, WardSpace{rounds.scan.clusters});
  }
  bool scan(const RoundsCuda& rounds, std::int64_t most, const Monitor& monitor, std::int64_t merges, Launches& launches) override {
    return scan_rows(rounds.scan, rounds.active, most, monitor, merges, launches);
  }
  void join(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    launches.launch(join_kernel, blocks_for(most / 2, 1, 4096), kJoinThreads, 0, rounds);
  }
  void repair(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    launches.launch(repair_kernel<WardDistances>, blocks_for(most, kLinkageWarps, 1 << 16), kLinkageThreads, 0, rounds,
                    WardDistances{rounds.scan.clusters});
  }

 private:
  static constexpr int kJoinThreads = 64;
};

}  // namespace

bool merge_ward_cuda(const RoundsCuda& rounds, const Distinct& distinct, const Monitor& monitor, Launches& launches) {
  begin_rounds_cuda(rounds, distinct, launches);
  WardCuda space;
  return merge_by_rounds_cuda(space, rounds, count_of(distinct, rounds.scan.clusters.n), monitor, launches);
}

}  // namespace clustercl
