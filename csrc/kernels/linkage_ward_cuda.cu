// Ward's linkage on CUDA: the rounds over centroids and sizes.
#include "linkage_rounds.cuh"

namespace clustercl {
namespace {

// Asked for after a round has settled, so that centroids and sizes are those of the unions.
struct WardDistances {
  ClustersCuda c;
  __device__ double operator()(std::int64_t a, std::int32_t b, int count) const {
    const double square = candidate_squares(c.rows, c.padded, a, b, count);
    return b < 0 ? static_cast<double>(INFINITY) : ward(c.sizes[a], c.sizes[b], square);
  }
};

// A block per pair, threads along the features.
__global__ void join_centroids_kernel(RoundsCuda rounds) {
  const ClustersCuda& c = rounds.scan.clusters;
  const std::int64_t merges = rounds.counts->merges;
  for (std::int64_t p = merges + blockIdx.x; p < merges + rounds.counts->pairs; p += gridDim.x) {
    const std::int32_t a = rounds.a[p], b = rounds.b[p];
    const double size_a = c.sizes[a], size_b = c.sizes[b], size = size_a + size_b;
    double* x = c.rows + a * c.padded;
    const double* y = c.rows + b * c.padded;
    // Equal rows stay what they are, to the last bit: duplicates merge at height 0 however many there are.
    for (std::int64_t f = threadIdx.x; f < c.padded; f += blockDim.x)
      if (x[f] != y[f]) x[f] = plus(times(size_a, x[f]), times(size_b, y[f])) / size;
  }
}

class WardCuda final : public SpaceCuda {
 public:
  bool scan(const RoundsCuda& rounds, std::int64_t most, const Monitor& monitor, std::int64_t merges, Launches& launches) override {
    return scan_rows(rounds.scan, rounds.active, most, monitor, merges, launches);
  }
  void join(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    launches.launch(join_centroids_kernel, blocks_for(most / 2, 1, 4096), kJoinThreads, 0, rounds);
  }
  void repair(const RoundsCuda& rounds, std::int64_t most, Launches& launches) override {
    launches.launch(repair_kernel<WardDistances>, blocks_for(most, kLinkageWarps, 1 << 16), kLinkageThreads, 0, rounds,
                    WardDistances{rounds.scan.clusters});
  }

 private:
  static constexpr int kJoinThreads = 64;
};

}  // namespace

bool merge_ward_cuda(const RoundsCuda& rounds, const Monitor& monitor, Launches& launches) {
  WardCuda space;
  return merge_by_rounds_cuda(space, rounds, monitor, launches);
}

}  // namespace clustercl
