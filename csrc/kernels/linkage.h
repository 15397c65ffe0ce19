// Exact hierarchical clustering: the (n - 1, 4) linkage matrix that SciPy writes.
//
//   ward      d(A, B) = sqrt(2 |A||B| / (|A| + |B|)) |c_A - c_B|, c the centroids
//   average   d(A, B) = mean of d(a, b);   complete  the largest;   single  the smallest
//   and every merge joins two clusters at the smallest distance that is left.
// Memory: ward and single hold rows of n * padded doubles, the rows twice in float32 (up to half of them once more while those look
// again) and 200 to 350 bytes per row; average and complete three times the rows and the condensed float64 matrix of n (n - 1) / 2
// entries (average: sums of distances, so that a merge only adds and nothing is rounded twice; or the means in half the memory,
// compact.h) and 144 bytes per row and thread.
// Shapes: rows (n, padded) from pad_rows, overwritten; z (n - 1, 4) = id, id, height, size as in SciPy.
// How: equal rows first (linkage_duplicates.h). ward, average and complete in rounds (linkage_rounds.cpp): every
// cluster knows its nearest, all pairs that are each other's nearest merge at once, and only clusters that lost their nearest look
// again. Clusters know their nearest few (Ward's from linkage_screen.h). single from a minimum spanning tree (linkage_single.h).
// Threads share the scans: blocks of clusters, or blocks of columns when few clusters scan.
// Numerics: float64 differences of rows (distance_tile.h), products where rows lie apart (condensed.h); on data centred by
// numbers so short that the subtraction leaves integers and other short numbers exact; magnitudes beyond 1e100 are scaled
// by a power of two and back.
// Ties: among distances that are equal as computed, the pair with the smaller id merges first, then the one with the
// smaller second id, a cluster's id for this being its smallest row. "As computed": on integers and the like single and
// complete are free of rounding, average is for whole distances, ward's centroids round once per merge.
// Determinism: the same bits for any number of threads and any instruction set.
// Sources: Bruynooghe 1978 (reducibility), Mullner 2011 (arXiv 1109.2378), the conventions of scipy.cluster.hierarchy.
#pragma once

#include <cstdint>
#include <limits>

#include "dispatch.h"
#include "pairwise.h"
#include "parallel.h"

namespace clustercl {

enum class Linkage { ward, average, complete, single };

// What the condensed matrix holds: float64, or half of that (compact.h), where every merge of average rounds to 27 digits.
enum class Entries { full, half };

// What has been done so far. rounds of merging (0 for single, which has none); distances computed from rows or centroids. On CUDA,
// ward: clusters that looked at a screen, and those of them that the first one left open.
struct Effort {
  std::int64_t merges = 0, rounds = 0, distances = 0, screened = 0, open = 0;
};

// Asked now and then, at least a few times per second, by the calling thread; false stops the computation.
struct Monitor {
  bool (*proceed)(void* context, const Effort& effort);
  void* context;
  mutable Effort effort = {};
  bool operator()(std::int64_t merges) const {
    effort.merges = merges;
    return proceed == nullptr || proceed(context, effort);
  }
};

// Fills z; false when the monitor stopped it. ward wants Metric::euclidean; cosine wants rows from prepare_rows. n >= 2.
// entries are for average and complete. Throws std::bad_alloc when the memory is not there.
bool linkage(double* rows, std::int64_t n, std::int64_t padded, Linkage method, Metric metric, Entries entries,
             const Parallel& parallel, const Monitor& monitor, double* z);

// The same from distances as SciPy's pdist lays them out, n (n - 1) / 2 of them, finite, at least 0. Not ward.
bool linkage_of_distances(const double* condensed, std::int64_t n, Linkage method, Entries entries, const Parallel& parallel,
                          const Monitor& monitor, double* z);

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The nearest cluster by (distance, id), and the distance below which no other lies.
struct Nearest {
  double distance = kInfinity;
  double bound = kInfinity;
  std::int64_t id = -1;
};

// The nearest few of one cluster, ascending by (distance, place): at infinity and -1 where there are fewer.
constexpr int kCandidates = 12;
struct Listed {
  double distance[kCandidates];
  std::int32_t place[kCandidates];
};

// Into a list that ascends by key, whose last entry falls out; among equal keys it comes last. (`static`: blocks.h)
template <class T>
static inline void insert_ascending(T* keys, std::int32_t* ids, int last, T key, std::int32_t id) {
  int at = last;
  for (; at > 0 && keys[at - 1] > key; --at) {
    keys[at] = keys[at - 1];
    ids[at] = ids[at - 1];
  }
  keys[at] = key;
  ids[at] = id;
}

CLUSTERCL_PER_ISA(
    // nearest[r] takes in the clusters columns[0 .. column_count) as seen from cluster rows[r], itself left out.
    // Distances are |A||B| / (|A| + |B|) * 2 |c_A - c_B|^2. sizes and centroids by cluster id.
    void ward_nearest(const double* centroids, const double* sizes, std::int64_t padded, const std::int64_t* rows,
                      std::int64_t row_count, const std::int64_t* columns, std::int64_t column_count, Nearest* nearest);
    double ward_distance(const double* centroids, const double* sizes, std::int64_t padded, std::int64_t a,
                         std::int64_t b);
    // out[j] = |row - columns[j]|^2.
    void row_squares(const double* rows, std::int64_t padded, std::int64_t row, const std::int64_t* columns,
                     std::int64_t column_count, double* out);
    // The same in float32, in any order of the features.
    void row_screen(const float* rows, std::int64_t padded, std::int64_t row, const std::int64_t* columns,
                    std::int64_t column_count, float* out);
    // A condensed matrix of m clusters, T double or Compact: the distance of i and j is entry / (weights[i] weights[j]), and
    // clusters of weight 0 are none. Takes rows [begin, end) into lists (m,), seen from both ends, where below limit (m,),
    // which is -1 for those who do not look and their list's last distance for the others.
    template <class T>
    void condensed_nearest(const T* condensed, std::int64_t m, const double* weights, std::int64_t begin, std::int64_t end,
                           double* limit, Listed* lists);
    // The same for one row, which itself may be among the `places`, ascending.
    template <class T>
    void condensed_nearest_of(const T* condensed, std::int64_t m, const double* weights, std::int64_t row,
                              const std::int64_t* places, std::int64_t count, Listed& list);)

}  // namespace clustercl
