// The steps of a round of linkage_rounds.cuh that no kind of clusters changes, each for all threads of a launch. Between two
// steps all blocks must have ended the first: by launches of their own, or by meeting (meeting.cuh).
//
// survey what is known, list who scans (`want`), scan, survey again, choose the pairs, join them, list what is left and close the
// books, repair what is left. A survey is two steps without atomics: a sum per block, and every warp of the next step adds those up.
#pragma once

#include "linkage_rounds.cuh"

namespace clustercl {

constexpr std::int64_t kScansPerMerge = 16;
#if defined(CLUSTERCL_SIMT)
constexpr std::int64_t kSurveyBlocks = 2;  // few clusters are to be too many for them
#else
constexpr std::int64_t kSurveyBlocks = 1024;  // most
#endif

// Of some clusters: the smallest pair that is known (b -1: none), by (distance, a, b); of those that do not know their nearest
// how many they are and which has the lowest bound.
struct Survey {
  double distance, bound;
  std::int32_t a, b, lowest, unknown;
};

__device__ inline std::int64_t first_of_launch() { return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline std::int64_t threads_of_launch() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }
// The number of the warp, counted from the last.
__device__ inline std::int64_t last_warp() { return (threads_of_launch() - 1 - first_of_launch()) / kWarp; }

__device__ inline bool precedes(const Survey& x, const Survey& y) {
  if (x.b < 0 || y.b < 0) return y.b < 0 && x.b >= 0;
  if (x.distance != y.distance) return x.distance < y.distance;
  return x.a < y.a || (x.a == y.a && x.b < y.b);
}

__device__ inline Survey both(Survey x, const Survey& y) {
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

__device__ inline Survey of_none() { return {INFINITY, INFINITY, -1, -1, -1, 0}; }

__device__ inline Survey of_warp(Survey own) {
#pragma unroll 1
  for (int step = kWarp / 2; step > 0; step /= 2)
    own = both(own, {shuffle_xor(own.distance, step), shuffle_xor(own.bound, step), shuffle_xor(own.a, step),
                     shuffle_xor(own.b, step), shuffle_xor(own.lowest, step), shuffle_xor(own.unknown, step)});
  return own;
}

// Shared memory for a survey of each warp, at most kWarp of them.
constexpr std::size_t survey_bytes(int threads) { return static_cast<std::size_t>(threads / kWarp) * sizeof(Survey); }

__device__ inline Survey of_known(std::int32_t i, std::int32_t nearest, double distance) {
  return {distance, INFINITY, i < nearest ? i : nearest, i < nearest ? nearest : i, -1, 0};
}
__device__ inline Survey of_unknown(std::int32_t i, double bound) { return {INFINITY, bound, -1, -1, i, 1}; }
__device__ inline Survey of_cluster(const ClustersCuda& c, std::int32_t i) {
  const std::int32_t j = c.id[i];
  return j >= 0 ? of_known(i, j, c.distance[i]) : of_unknown(i, c.bound[i]);
}

// warp: of the warp, in its first lane.
__device__ inline void tell_survey(const RoundsCuda& rounds, const Survey& warp) {
  Survey* const shared = shared_memory<Survey>();
  const int lane = threadIdx.x % kWarp;
  __syncthreads();  // who used this memory before is done
  if (lane == 0) shared[threadIdx.x / kWarp] = warp;
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  const Survey all = of_warp(lane < static_cast<int>(blockDim.x) / kWarp ? shared[lane] : of_none());
  if (lane == 0) rounds.surveys[blockIdx.x] = all;
}

__device__ inline void survey(const RoundsCuda& rounds) {
  const std::int64_t count = rounds.counts->count;
  Survey own = of_none();
  for (std::int64_t k = first_of_launch(); k < count; k += threads_of_launch())
    own = both(own, of_cluster(rounds.scan.clusters, rounds.active[k]));
  tell_survey(rounds, of_warp(own));
}

// What `blocks` blocks surveyed, in every thread; each warp adds up for itself, which is quicker than to wait for others.
__device__ inline Survey of_all(const RoundsCuda& rounds, std::int64_t blocks) {
  Survey own = of_none();
  for (std::int64_t k = threadIdx.x % kWarp; k < blocks; k += kWarp) own = both(own, rounds.surveys[k]);
  return of_warp(own);
}

// The smallest pair of all is known for certain.
__device__ inline bool certain(const Survey& all) { return all.lowest < 0 || all.bound * (1.0 - kSlack) > all.distance; }

// Whether all that do not know their nearest may scan, or some must.
__device__ inline bool each_wants(const RoundsCuda& rounds, const Survey& all) {
  return all.unknown <= rounds.counts->earned && all.unknown * rounds.patience >= rounds.counts->count;
}
__device__ inline bool any_wants(const RoundsCuda& rounds, const Survey& all) {
  return all.unknown > 0 && (each_wants(rounds, all) || !certain(all));
}

__device__ inline void want(const RoundsCuda& rounds, const Survey& all) {
  if (!any_wants(rounds, all)) return;
  // Otherwise the one that may be nearest, with all that are as near: their bounds would make them scan in turn.
  const double most = each_wants(rounds, all) ? static_cast<double>(INFINITY) : all.bound * (1.0 + 2 * kSlack);
  const std::int64_t count = rounds.counts->count;
  for (std::int64_t k = first_of_launch(); k < count; k += threads_of_launch())
    if (const std::int32_t i = rounds.active[k]; rounds.scan.clusters.id[i] < 0 && rounds.scan.clusters.bound[i] <= most)
      rounds.scan.wanted[atomicAdd(&rounds.scan.counts->wanted, 1)] = i;
}

// Nothing else is as near to either of i and its nearest.
__device__ inline bool paired(const ClustersCuda& c, std::int64_t i) {
  const std::int64_t j = c.id[i];
  return j >= 0 && c.id[j] == i && alone(c, i) && alone(c, j);
}

__device__ inline bool stays(const RoundsCuda& rounds, std::int32_t i) {
  const std::int32_t into = rounds.into[i];
  return into >= 0 || ~into == i;
}

__device__ inline void choose(const RoundsCuda& rounds, const Survey& all) {
  const ClustersCuda& c = rounds.scan.clusters;
  const std::int64_t count = rounds.counts->count, merges = rounds.counts->merges;
  const int lane = threadIdx.x % kWarp;
  // The smallest pair merges although something is as near, unless (by rounding) a merge would cross it.
  const bool with_first = certain(all) && all.b >= 0 && !paired(c, all.a) && !paired(c, all.b);
  for (std::int64_t begin = first_of_launch() - lane; begin < count; begin += threads_of_launch()) {
    bool is_left = false;
    if (begin + lane < count) {
      const std::int32_t i = rounds.active[begin + lane];
      const bool alone = paired(c, i);
      std::int32_t other = alone ? c.id[i] : -1;
      if (!alone && with_first && (i == all.a || i == all.b)) other = all.a + all.b - i;
      rounds.into[i] = other < 0 ? i : ~(i < other ? i : other);
      is_left = other < 0 || i < other;
      if (other > i) {
        const double size_b = c.sizes[other], size = c.sizes[i] + size_b;  // read before the atomic, which is waited for
        const std::int64_t at = merges + atomicAdd(&rounds.counts->pairs, 1);
        rounds.a[at] = i;
        rounds.b[at] = other;
        rounds.between[at] = alone ? c.distance[i] : all.distance;
        rounds.share[at] = size_b / size;
        c.sizes[i] = size;
      }
    }
    const unsigned left = __ballot_sync(kAllLanes, is_left);
    if (lane == 0) {
      rounds.segments[begin / kWarp] = __popc(left);
      atomicAdd(&rounds.chunks[begin / kChunk], __popc(left));
    }
  }
}

// What is known of the distances from i to all but `other`.
__device__ inline double lower_bound(const ClustersCuda& c, std::int64_t i, std::int32_t other) {
  return c.id[i] != other && c.distance[i] < c.bound[i] ? c.distance[i] : c.bound[i];
}

// Pair p of the round: what is known of the union's distances where nobody looks.
__device__ inline void settle(const RoundsCuda& rounds, std::int64_t p) {
  const ClustersCuda& c = rounds.scan.clusters;
  const std::int32_t a = rounds.a[rounds.counts->merges + p], b = rounds.b[rounds.counts->merges + p];
  const double of_a = lower_bound(c, a, b), of_b = lower_bound(c, b, a);
  forget(c, a, of_a < of_b ? of_a : of_b);
}

// What `choose` left of `active`, in its order: a warp for each 32, which adds up how many there are before. From the last warp on,
// since joining takes the first ones.
__device__ inline void list_left(const RoundsCuda& rounds) {
  const std::int64_t count = rounds.counts->count;
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t segment = last_warp(); segment * kWarp < count; segment += threads_of_launch() / kWarp) {
    const std::int64_t k = segment * kWarp + lane;
    const std::int32_t i = k < count ? rounds.active[k] : -1;
    const std::int64_t chunk = segment * kWarp / kChunk, own = chunk * kChunk / kWarp + lane;
    std::int32_t before = own < segment ? rounds.segments[own] : 0;
    for (std::int64_t other = lane; other < chunk; other += kWarp) before += rounds.chunks[other];
    for (int step = kWarp / 2; step > 0; step /= 2) before += shuffle_xor(before, step);
    const bool is_left = i >= 0 && stays(rounds, i);
    const unsigned left = __ballot_sync(kAllLanes, is_left);
    if (is_left) rounds.left[before + __popc(left & ((1u << lane) - 1))] = i;
  }
}

// All that are left, a warp each. Unions that looked while they were joined are told what they saw. Returns, in the first lane, the
// survey of what the warp had.
template <class Distances>
__device__ Survey repair(const RoundsCuda& rounds, const Distances& distances) {
  Survey own = of_none();
  const std::int64_t count = rounds.counts->count, pairs = rounds.counts->pairs, warps = threads_of_launch() / kWarp;
  for (std::int64_t chunk = first_of_launch(); chunk * kChunk < count; chunk += threads_of_launch()) rounds.chunks[chunk] = 0;
  if constexpr (Distances::kUnionsLook)
    for (std::int64_t p = last_warp(); p < pairs; p += warps) own = both(own, distances.tell_union(rounds, p));
  for (std::int64_t k = first_of_launch() / kWarp; k < count - pairs; k += warps) {
    const std::int32_t i = rounds.left[k];
    const bool joined = rounds.into[i] < 0;
    if (joined && Distances::kUnionsLook) continue;
    if (!joined) repair_cluster(rounds, i, distances);
    __syncwarp();
    if (threadIdx.x % kWarp == 0) own = both(own, of_cluster(rounds.scan.clusters, i));
  }
  return own;
}

// The last thread, when pairs have been chosen: nothing then changes what is counted, and what it tells is read in the next round.
__device__ inline void close_round(const RoundsCuda& rounds) {
  if (first_of_launch() != threads_of_launch() - 1) return;
  ScanCounts& scans = *rounds.scan.counts;
  RoundCounts counts = *rounds.counts;
  if (counts.count <= 1) {
    *rounds.next = counts;
    return;
  }
  // Every round merges or scans: anything else, as a distance that is not a number, would go on for ever.
  if (counts.pairs == 0 && scans.wanted == 0) ++counts.stuck;
  counts.earned = (counts.earned > scans.wanted ? counts.earned - scans.wanted : 0) + kScansPerMerge * counts.pairs;
  counts.distances += static_cast<std::int64_t>(scans.wanted) * counts.count;
  if (rounds.scan.screen_columns > 0 && screened(rounds.scan, scans.wanted, counts.count)) {
    counts.screened += scans.wanted;
    counts.open += scans.open[0];
  }
  counts.merges += counts.pairs;
  counts.count -= counts.pairs;
  ++counts.rounds;
  counts.pairs = 0;
  scans = {counts.count, 0, {}};
  *rounds.next = counts;
}

template <class Distances>
__global__ void repair_kernel(RoundsCuda rounds, Distances distances) {
  repair(rounds, distances);
}

}  // namespace clustercl
