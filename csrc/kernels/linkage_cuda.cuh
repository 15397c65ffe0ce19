// What the CUDA files of the linkage share: what is known of each cluster, and the scans that tell it.
#pragma once

#include "distances.cuh"
#include "launches.cuh"
#include "linkage_cuda.h"
#include "linkage_parts.h"
#include "nearest.cuh"
#include "workspace.h"

namespace clustercl {

constexpr int kLinkageThreads = 128;
constexpr int kLinkageWarps = kLinkageThreads / kWarp;
// Blocks of a scan; where there are fewer tiles of rows, the columns are divided into parts.
constexpr std::int64_t kScanBlocks = 528;
constexpr int kScanRows = 64;  // most rows of a tile of a scan
constexpr int kScreens = 2;    // one after the other, each finer

// By cluster, n of each. nearest as in linkage.h: id -1 for unknown, then its distance is infinite.
struct ClustersCuda {
  std::int64_t n, padded;
  double* rows;                // centroids (n, padded)
  double* sizes;
  double *distance, *bound;
  std::int32_t* id;
  // Candidates: `count` of kCandidates, 0 where there are none; everything else lies at least at `beyond`.
  double *far, *beyond;
  std::int32_t *listed, *count;
  std::int32_t* component;     // clusters of one component do not see each other; null for ward
};

// Of the columns of a scan, and of its lists, which threads fill in any order.
struct ScanCounts {
  std::int32_t columns, wanted, open[kScreens];
};

// The lists of `parts` parts of the columns, list k of part p at (p * count + k) * kCandidates.
struct PartLists {
  double* distance;
  float* lower;
  std::int32_t* id;
};

struct ScanCuda {
  ClustersCuda clusters;
  ScanCounts* counts;
  std::int32_t *wanted, *open[kScreens];  // clusters that scan; those of them that a screen leaves open
  PartLists lists;
  // For a screen: clusters as it multiplies them, of all columns and of those that look.
  void *columns, *rows, *heads;  // heads: what linkage_hopper.h reads beside its columns
  float *column_norm, *column_inverse, *row_norm, *row_inverse;
  double unit;  // a power of two that brings the largest element near 1
  bool wgmma;   // the first screen is that of linkage_hopper.h
  std::int64_t screen_columns;
};

inline std::int64_t scan_slots(std::int64_t n) { return n + 2 * kScanRows * kScanBlocks; }
ClustersCuda clusters_in(Parts& parts, std::int64_t n, std::int64_t padded, double* rows, bool components);
ScanCuda scan_in(Parts& parts, const ClustersCuda& clusters, bool with_screen);

// Fills nearest and candidates of scan.wanted among the first counts->columns of `active` by rows; false when stopped.
// most: no less than columns.
bool scan_rows(const ScanCuda& scan, const std::int32_t* active, std::int64_t most, const Monitor& monitor, std::int64_t merges,
               Launches& launches);

// The screens before that: what stays open is in scan.open. Numbers of float32 that a packed row takes at most.
bool screen_rows(const ScanCuda& scan, const std::int32_t* active, std::int64_t most, const Monitor& monitor, std::int64_t merges,
                 Launches& launches);
std::int64_t screen_numbers(std::int64_t padded);

// Fewer rows, or columns than scan.screen_columns, are scanned in float64: that takes two launches instead of ten.
constexpr std::int64_t kScreenRows = 64;
__host__ __device__ inline bool screened(const ScanCuda& scan, std::int64_t rows, std::int64_t columns) {
  return rows >= kScreenRows && columns >= scan.screen_columns;
}

// Who looks: at a screen, or (kScreens) in float64.
struct Looking {
  const std::int32_t* list;
  std::int64_t count;
};

__device__ inline Looking looking(const ScanCuda& scan, int screen) {
  const ScanCounts& counts = *scan.counts;
  Looking rows{scan.wanted, counts.wanted};
  for (int k = 0; k < kScreens; ++k) {
    const bool here = screened(scan, rows.count, counts.columns);
    if (k == screen) return here ? rows : Looking{nullptr, 0};
    if (!here) return screen == kScreens ? rows : Looking{nullptr, 0};
    rows = {scan.open[k], counts.open[k]};
  }
  return rows;
}

// Forgets everything: no nearest, bound 0; sizes 1, component its own.
void begin_clusters(const ClustersCuda& clusters, Launches& launches);

__host__ __device__ inline std::int64_t parts_of(std::int64_t tiles, std::int64_t room, std::int64_t most) {
  const std::int64_t parts = tiles > 0 ? room / tiles : 1;
  return parts < 1 ? 1 : parts > most ? most : parts;
}

__device__ inline double ward(double size_a, double size_b, double square) {
  return 2.0 * size_a * size_b / (size_a + size_b) * square;
}

__device__ inline bool alone(const ClustersCuda& c, std::int64_t i) { return c.distance[i] < c.bound[i] * (1.0 - kSlack); }

__device__ inline void forget(const ClustersCuda& c, std::int64_t i, double bound) {
  c.distance[i] = INFINITY;
  c.bound[i] = bound;
  c.id[i] = -1;
  c.count[i] = 0;
}

// A warp, lane k < kCandidates with a cluster b (-1: none) at distance `far` from a: nearest and candidates of a. All others
// lie at least at `beyond`. certain: the nearest of these is the nearest of all. False, and nothing told, where it need not be.
// kSorted: the nearest first.
template <bool kSorted = false>
__device__ bool tell(const ClustersCuda& c, std::int64_t a, double far, std::int32_t b, double beyond, bool certain) {
  const int lane = threadIdx.x % kWarp;
  if (b < 0) far = INFINITY;
  double nearest = far, second;
  std::int32_t id = b;
  if constexpr (kSorted) {
    nearest = shuffle(far, 0);
    id = shuffle(b, 0);
    second = shuffle(far, 1);
  } else {
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const double x = shuffle_xor(nearest, step);
      const std::int32_t i = shuffle_xor(id, step);
      if (i >= 0 && (id < 0 || NearestFew<double>::before(x, i, nearest, id))) {
        nearest = x;
        id = i;
      }
    }
    second = b >= 0 && b != id ? far : INFINITY;
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const double x = shuffle_xor(second, step);
      second = x < second ? x : second;
    }
  }
  const bool below = nearest < beyond * (1.0 - kSlack);
  if (!below && !certain) return false;
  const bool kept = below && b >= 0 && far < beyond;
  const unsigned all = __ballot_sync(kAllLanes, kept);
  if (kept) {
    const std::int64_t at = a * kCandidates + __popc(all & ((1u << lane) - 1));
    c.far[at] = far;
    c.listed[at] = b;
  }
  if (lane == 0) {
    c.distance[a] = id < 0 ? INFINITY : nearest;
    c.bound[a] = second < beyond ? second : beyond;
    c.id[a] = id;
    c.beyond[a] = beyond;
    c.count[a] = __popc(all);
  }
  return true;
}

// A warp: what the parts of the columns listed for row r of `count`, put together: in lane k < kCandidates the k-th nearest, -1
// where there are fewer. Returns the last of a full list, else infinity: all others lie at least as far.
template <class D>
__device__ D merged_parts(const D* distances, const std::int32_t* ids, std::int64_t r, std::int64_t count, std::int64_t parts,
                          D& distance, std::int32_t& id) {
  const int lane = threadIdx.x % kWarp;
  WarpFew<D> few;
  for (std::int64_t first = 0; first < parts; first += kWarp) {
    D own[kCandidates];
    std::int32_t own_id[kCandidates];
#pragma unroll
    for (int k = 0; k < kCandidates; ++k) {  // at once: none of these reads waits for another
      const std::int64_t at = ((first + lane) * count + r) * kCandidates + k;
      own[k] = first + lane < parts ? distances[at] : static_cast<D>(INFINITY);
      own_id[k] = first + lane < parts ? ids[at] : -1;
    }
#pragma unroll
    for (int k = 0; k < kCandidates; ++k) {
      if (__ballot_sync(kAllLanes, few.counts(own[k], own_id[k])) == 0) break;  // the rest lie farther off still
      few.offer(own[k], own_id[k]);
    }
  }
  distance = lane < kCandidates ? few.distance : static_cast<D>(INFINITY);
  id = lane < kCandidates ? few.id : -1;
  return few.limit;
}

// A warp: tells cluster a, row r of `count`, from the lists of its parts, and returns what it is told.
__device__ inline Nearest tell_parts(const ScanCuda& scan, std::int64_t a, std::int64_t r, std::int64_t count, std::int64_t parts) {
  double far;
  std::int32_t b;
  const double beyond = merged_parts(scan.lists.distance, scan.lists.id, r, count, parts, far, b);
  tell<true>(scan.clusters, a, far, b, beyond, true);
  const double second = shuffle(far, 1);
  return {shuffle(far, 0), second < beyond ? second : beyond, shuffle(b, 0)};
}

}  // namespace clustercl
