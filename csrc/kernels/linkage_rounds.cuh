// The rounds of linkage_rounds.cpp on CUDA: state, what a kind of clusters supplies, and the repair of what clusters know.
//
// Differences from the CPU's: where scanning all that do not know their nearest does not pay, one of them and its ties scan
// per round, if they must, while the others merge on; and Ward's unions do not inherit candidates. The tree is the same: it is the
// greedy one.
#pragma once

#include "linkage_duplicates_cuda.cuh"
#include "meeting.cuh"

namespace clustercl {

// What the host reads after some rounds. count: clusters before the present round; merges: those of the rounds before it.
struct RoundCounts {
  std::int32_t count, merges, pairs;
  std::int64_t earned;  // scans that may be made for all at once
  std::int64_t rounds, distances, screened, open;  // screened, open: as in Effort
  std::int32_t stuck;   // rounds that did not do what every round does
};

// Clusters of which those left are counted together; at most kWarp times kWarp. The host executor has few clusters.
#if defined(CLUSTERCL_SIMT)
constexpr std::int64_t kChunk = 2 * kWarp;
#else
constexpr std::int64_t kChunk = kWarp * kWarp;
#endif

struct Survey;  // linkage_steps.cuh

struct RoundsCuda {
  ScanCuda scan;
  Survey* surveys;  // one for each block
  // Where unions look as they are joined, a round without scans is shorter: all that do not know their nearest scan when they are
  // at least one in so many.
  std::int64_t patience;
  std::int32_t *active, *left;  // clusters, and those after the round, in ascending order
  std::int32_t *segments, *chunks;  // how many of each kWarp, and of each kChunk, in `active` are left; chunks: 0 between rounds
  std::int32_t* into;           // by cluster: itself, or the complement of the union that it merged into in this round
  std::int32_t *a, *b;          // merges (at most n - 1), a < b; those of the round follow the others
  double *between, *share;      // their distances, b's share of the rows of both
  RoundCounts *counts, *next;   // of this round and of the next, which are told while this one goes on
  Meeting* meeting;

  // What the next round has.
  __host__ __device__ void turn() {
    const auto swap = [](auto*& x, auto*& y) {
      auto* const z = x;
      x = y;
      y = z;
    };
    swap(active, left);
    swap(counts, next);
  }
};

// Clusters and their distances under a reducible linkage; counts has how many there are, `most` is no less.
struct SpaceCuda {
  virtual ~SpaceCuda() = default;
  // Many rounds in one launch, where that pays: then true.
  virtual bool rounds_together(const RoundsCuda&, std::int64_t, Launches&) { return false; }
  // Nearest and candidates of scan.wanted; false when stopped.
  virtual bool scan(const RoundsCuda& rounds, std::int64_t most, const Monitor& monitor, std::int64_t merges, Launches& launches) = 0;
  // Joins the pairs of the round, lists what is left, and closes the round: tells what the next has.
  virtual void join(const RoundsCuda& rounds, std::int64_t most, Launches& launches) = 0;
  // Repairs what is left.
  virtual void repair(const RoundsCuda& rounds, std::int64_t most, Launches& launches) = 0;
};

// patience: n, for nobody to wait.
RoundsCuda rounds_in(Parts& parts, const ScanCuda& scan);

// Clusters before the first round: the distinct rows.
void begin_rounds_cuda(const RoundsCuda& rounds, const Distinct& distinct, Launches& launches);
// Fills a, b and between with the merges of the `clusters` that there are at first; false when stopped.
bool merge_by_rounds_cuda(SpaceCuda& space, const RoundsCuda& rounds, std::int64_t clusters, const Monitor& monitor, Launches& launches);

// A warp: c's nearest and candidates after a round. distances(a, b, count): in lane k < count, that of clusters a and b, b the
// lane's own, where that is not negative.
template <class Distances>
__device__ void repair_cluster(const RoundsCuda& rounds, std::int64_t i, const Distances& distances) {
  constexpr std::int32_t kFresh = 8;  // with more new clusters than this, a tied cluster rather scans
  const ClustersCuda& c = rounds.scan.clusters;
  const std::int32_t* into = rounds.into;
  const int lane = threadIdx.x % kWarp;
  if (c.id[i] < 0) return;
  const std::int32_t count = c.count[i];
  if (count > 0) {
    // Clusters that merged stand for their union in the list. What is in no list lies beyond, and so does its union.
    const std::int64_t at = i * kCandidates + lane;
    std::int32_t b = lane < count ? c.listed[at] : -1;
    double far = lane < count ? c.far[at] : static_cast<double>(INFINITY);
    const bool changed = b >= 0 && into[b] < 0;
    if (__ballot_sync(kAllLanes, changed) == 0) return;
    if (changed) b = ~into[b];
    const double now = distances(i, changed ? b : -1, count);
    if (changed) far = now;
    bool kept = b >= 0;
    for (int k = 0; k < count; ++k) {
      const std::int32_t other = shuffle(b, k);
      if (k < lane && other == b) kept = false;
    }
    const double beyond = c.beyond[i];
    __syncwarp();  // all have read what tell writes
    if (tell(c, i, far, kept ? b : -1, beyond, false)) return;
    double nearest = kept ? far : static_cast<double>(INFINITY);
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const double x = shuffle_xor(nearest, step);
      nearest = x < nearest ? x : nearest;
    }
    if (lane == 0) forget(c, i, nearest < beyond ? nearest : beyond);
    return;
  }
  const bool tied = !alone(c, i);
  Nearest nearest{c.distance[i], c.bound[i], c.id[i]};
  __syncwarp();  // all have read what lane 0 writes
  if (into[nearest.id] < 0) {  // the nearest has merged
    const std::int32_t cluster = ~into[nearest.id];
    const double distance = shuffle(distances(i, lane == 0 ? cluster : -1, 1), 0);
    const bool still_first = distance < nearest.bound * (1.0 - kSlack);
    if (!still_first && distance > nearest.distance) {
      if (lane == 0) forget(c, i, nearest.bound < distance ? nearest.bound : distance);
      return;
    }
    nearest.id = cluster;
    nearest.distance = distance;
    if (still_first) {
      if (lane == 0) {
        c.id[i] = cluster;
        c.distance[i] = distance;
      }
      return;
    }
  } else if (!tied) {
    return;
  }
  // Something is as near as the nearest: a new cluster may be, and under a smaller id.
  const std::int32_t pairs = rounds.counts->pairs;
  if (pairs > kFresh) {
    if (lane == 0) forget(c, i, nearest.bound < nearest.distance ? nearest.bound : nearest.distance);
    return;
  }
  const std::int32_t fresh = lane < pairs ? rounds.a[rounds.counts->merges + lane] : -1;
  const double far = distances(i, fresh, pairs);
  for (int k = 0; k < pairs; ++k) {
    const std::int32_t id = shuffle(fresh, k);
    const double distance = shuffle(far, k);
    if (id == nearest.id) continue;
    if (NearestFew<double>::before(distance, id, nearest.distance, static_cast<std::int32_t>(nearest.id))) {
      nearest.bound = nearest.distance;
      nearest.distance = distance;
      nearest.id = id;
    } else if (distance < nearest.bound) {
      nearest.bound = distance;
    }
  }
  if (lane != 0) return;
  c.id[i] = static_cast<std::int32_t>(nearest.id);
  c.distance[i] = nearest.distance;
  c.bound[i] = nearest.bound;
}

}  // namespace clustercl
