// The kernels of linkage_rounds.cuh that no kind of clusters changes, and the loop over the rounds.
//
// A round: survey what is known, list who scans, scan, survey again, choose the pairs, join them, settle what is known of the
// unions, repair the rest, close the books. A survey is two steps without atomics: a sum per block, and every block
// of the next kernel adds those up. How many clusters there are only the device knows: the host begins several rounds, with
// grids for as many as there last were, before it waits; rounds that find one cluster left do nothing.
#include "linkage_rounds.cuh"

namespace clustercl {
namespace {

constexpr std::int64_t kScansPerMerge = 16;
// Begun before the host looks at the count; the host executor, to which idle threads cost what busy ones do, needs no lead.
#if defined(CLUSTERCL_SIMT)
constexpr int kRoundsAhead = 2;
#else
constexpr int kRoundsAhead = 16;
#endif
constexpr std::int64_t kLongRound = std::int64_t{1} << 40;  // features of pairs of clusters: users may want to stop after each

// Of some clusters: the smallest pair that is known (b -1: none), by (distance, a, b); of those that do not know their nearest
// how many they are and which has the lowest bound.
struct Survey {
  double distance, bound;
  std::int32_t a, b, lowest, unknown;
};

__device__ Survey nothing() { return {INFINITY, INFINITY, -1, -1, -1, 0}; }

__device__ bool precedes(const Survey& x, const Survey& y) {
  if (x.b < 0 || y.b < 0) return y.b < 0 && x.b >= 0;
  if (x.distance != y.distance) return x.distance < y.distance;
  return x.a < y.a || (x.a == y.a && x.b < y.b);
}

__device__ Survey both(Survey x, const Survey& y) {
  if (precedes(y, x)) {
    x.distance = y.distance;
    x.a = y.a;
    x.b = y.b;
  }
  if (y.lowest >= 0 && (x.lowest < 0 || y.bound < x.bound || (y.bound == x.bound && y.lowest < x.lowest))) {
    x.bound = y.bound;
    x.lowest = y.lowest;
  }
  x.unknown += y.unknown;
  return x;
}

// In every thread that of all threads of the block. shared: kLinkageThreads of them.
__device__ Survey of_block(const Survey& own, Survey* shared) {
  shared[threadIdx.x] = own;
  for (int step = kLinkageThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < step) shared[threadIdx.x] = both(shared[threadIdx.x], shared[threadIdx.x + step]);
  }
  __syncthreads();
  return shared[0];
}

__device__ Survey of_all(const Survey* surveys, std::int64_t blocks, Survey* shared) {
  Survey own = nothing();
  for (std::int64_t k = threadIdx.x; k < blocks; k += kLinkageThreads) own = both(own, surveys[k]);
  return of_block(own, shared);
}

__global__ void close_round_kernel(RoundsCuda rounds) {
  ScanCounts& scans = *rounds.scan.counts;
  RoundCounts& counts = *rounds.counts;
  if (counts.count <= 1) {
    counts.left = 0;
    return;
  }
  // Every round merges or scans: anything else, as a distance that is not a number, would go on for ever.
  if (counts.left != counts.count - counts.pairs || (counts.pairs == 0 && scans.wanted == 0)) ++counts.stuck;
  counts.earned = (counts.earned > scans.wanted ? counts.earned - scans.wanted : 0) + kScansPerMerge * counts.pairs;
  counts.distances += static_cast<std::int64_t>(scans.wanted) * counts.count;
  counts.merges += counts.pairs;
  counts.count = counts.left;
  ++counts.rounds;
  counts.pairs = counts.left = 0;
  scans = {counts.count, 0, {}};
}

__global__ void survey_kernel(RoundsCuda rounds, Survey* surveys) {
  const ClustersCuda& c = rounds.scan.clusters;
  const std::int64_t count = rounds.counts->count;
  Survey own = nothing();
  for (std::int64_t k = blockIdx.x * kLinkageThreads + threadIdx.x; k < count; k += gridDim.x * kLinkageThreads) {
    const std::int32_t i = rounds.active[k], j = c.id[i];
    if (j >= 0)
      own = both(own, {c.distance[i], INFINITY, i < j ? i : j, i < j ? j : i, -1, 0});
    else
      own = both(own, {INFINITY, c.bound[i], -1, -1, i, 1});
  }
  const Survey all = of_block(own, shared_memory<Survey>());
  if (threadIdx.x == 0) surveys[blockIdx.x] = all;
}

// The smallest pair of all is known for certain.
__device__ bool certain(const Survey& all) { return all.lowest < 0 || all.bound * (1.0 - kSlack) > all.distance; }

__global__ void want_kernel(RoundsCuda rounds, const Survey* surveys, std::int64_t blocks) {
  const std::int64_t count = rounds.counts->count;
  if (count <= 1) return;
  const Survey all = of_all(surveys, blocks, shared_memory<Survey>());
  const std::int64_t first = blockIdx.x * kLinkageThreads + threadIdx.x;
  const bool each = all.unknown <= rounds.counts->earned;
  if (!each && certain(all)) return;
  // Otherwise the one that may be nearest, with all that are as near: their bounds would make them scan in turn.
  const double most = each ? static_cast<double>(INFINITY) : all.bound * (1.0 + 2 * kSlack);
  for (std::int64_t k = first; k < count; k += gridDim.x * kLinkageThreads)
    if (const std::int32_t i = rounds.active[k]; rounds.scan.clusters.id[i] < 0 && rounds.scan.clusters.bound[i] <= most)
      rounds.scan.wanted[atomicAdd(&rounds.scan.counts->wanted, 1)] = i;
}

// Nothing else is as near to either of i and its nearest.
__device__ bool paired(const ClustersCuda& c, std::int64_t i) {
  const std::int64_t j = c.id[i];
  return j >= 0 && c.id[j] == i && alone(c, i) && alone(c, j);
}

__global__ void choose_kernel(RoundsCuda rounds, const Survey* surveys, std::int64_t blocks) {
  const ClustersCuda& c = rounds.scan.clusters;
  const std::int64_t count = rounds.counts->count, merges = rounds.counts->merges;
  const Survey all = of_all(surveys, blocks, shared_memory<Survey>());
  // The smallest pair merges although something is as near, unless (by rounding) a merge would cross it.
  const bool with_first = certain(all) && all.b >= 0 && !paired(c, all.a) && !paired(c, all.b);
  for (std::int64_t k = blockIdx.x * kLinkageThreads + threadIdx.x; k < count; k += gridDim.x * kLinkageThreads) {
    const std::int32_t i = rounds.active[k];
    const bool alone = paired(c, i);
    std::int32_t other = alone ? c.id[i] : -1;
    if (!alone && with_first && (i == all.a || i == all.b)) other = all.a + all.b - i;
    rounds.into[i] = other < 0 ? i : ~(i < other ? i : other);
    if (other <= i) continue;
    const std::int64_t at = merges + atomicAdd(&rounds.counts->pairs, 1);
    rounds.a[at] = i;
    rounds.b[at] = other;
    rounds.between[at] = alone ? c.distance[i] : all.distance;
  }
}

// What is known of the distances from i to all but `other`.
__device__ double lower_bound(const ClustersCuda& c, std::int64_t i, std::int32_t other) {
  return c.id[i] != other && c.distance[i] < c.bound[i] ? c.distance[i] : c.bound[i];
}

__global__ void settle_kernel(RoundsCuda rounds) {
  const ClustersCuda& c = rounds.scan.clusters;
  const std::int64_t merges = rounds.counts->merges;
  const std::int32_t pairs = rounds.counts->pairs;
  for (std::int64_t p = blockIdx.x * kLinkageThreads + threadIdx.x; p < pairs; p += gridDim.x * kLinkageThreads) {
    const std::int32_t a = rounds.a[merges + p], b = rounds.b[merges + p];
    const double of_a = lower_bound(c, a, b), of_b = lower_bound(c, b, a);
    c.sizes[a] += c.sizes[b];
    forget(c, a, of_a < of_b ? of_a : of_b);
  }
}

__global__ void first_kernel(RoundsCuda rounds) {
  const std::int64_t n = rounds.scan.clusters.n, first = blockIdx.x * kLinkageThreads + threadIdx.x;
  for (std::int64_t i = first; i < n; i += gridDim.x * kLinkageThreads) rounds.active[i] = static_cast<std::int32_t>(i);
  if (first != 0) return;
  *rounds.counts = {static_cast<std::int32_t>(n), 0, 0, 0, n, 0, 0, 0};
  *rounds.scan.counts = {static_cast<std::int32_t>(n), 0, {}};
}

}  // namespace

RoundsCuda rounds_in(Parts& parts, const ScanCuda& scan) {
  const std::int64_t n = scan.clusters.n;
  RoundsCuda rounds{};
  rounds.scan = scan;
  for (std::int32_t** list : {&rounds.active, &rounds.left, &rounds.into, &rounds.a, &rounds.b}) *list = parts.take<std::int32_t>(n);
  rounds.between = parts.take<double>(n);
  rounds.counts = parts.take<RoundCounts>(1);
  return rounds;
}

bool merge_by_rounds_cuda(SpaceCuda& space, const RoundsCuda& begin, const Monitor& monitor, Launches& launches) {
  constexpr std::size_t shared = kLinkageThreads * sizeof(Survey);
  RoundsCuda rounds = begin;
  const std::int64_t n = rounds.scan.clusters.n, before = monitor.effort.distances;
  // A scan's lists are not in use while surveys are: they lie at their beginning.
  auto* const surveys = reinterpret_cast<Survey*>(rounds.scan.lists.distance);
  begin_clusters(rounds.scan.clusters, launches);
  launches.launch(first_kernel, blocks_for(n, kLinkageThreads), kLinkageThreads, 0, rounds);
  for (std::int64_t most = n; most > 1 && launches.fine();) {
    const std::int64_t merges = n - most, blocks = blocks_for(most, kLinkageThreads);
    if (!monitor(merges)) return false;
    const bool is_long = most * most * rounds.scan.clusters.padded > kLongRound;
    for (int ahead = is_long ? 1 : kRoundsAhead; ahead > 0; --ahead) {
      launches.launch(survey_kernel, blocks, kLinkageThreads, shared, rounds, surveys);
      launches.launch(want_kernel, blocks, kLinkageThreads, shared, rounds, static_cast<const Survey*>(surveys), blocks);
      if (!space.scan(rounds, most, monitor, merges, launches)) return false;
      launches.launch(survey_kernel, blocks, kLinkageThreads, shared, rounds, surveys);
      launches.launch(choose_kernel, blocks, kLinkageThreads, shared, rounds, static_cast<const Survey*>(surveys), blocks);
      space.join(rounds, most, launches);
      launches.launch(settle_kernel, blocks_for(most / 2, kLinkageThreads), kLinkageThreads, 0, rounds);
      space.repair(rounds, most, launches);
      launches.launch(close_round_kernel, 1, 1, 0, rounds);
      std::swap(rounds.active, rounds.left);
    }
    RoundCounts counts;
    launches.read(&counts, rounds.counts, 1);
    if (!launches.fine()) break;
    if (counts.stuck != 0) {
      launches.error = cudaErrorUnknown;
      break;
    }
    monitor.effort.rounds = counts.rounds;
    monitor.effort.distances = before + counts.distances;
    most = counts.count;
  }
  return true;
}

}  // namespace clustercl
