// Exact hierarchical clustering: the (n - 1, 4) linkage matrix that SciPy writes.
//
//   ward      d(A, B) = sqrt(2 |A||B| / (|A| + |B|)) |c_A - c_B|, c the centroids
//   average   d(A, B) = mean of d(a, b);   complete  the largest;   single  the smallest
//   and every merge joins two clusters at the smallest distance that is left.
// Memory: ward and single hold rows of n * padded doubles and O(n) beside them (ward also the centroids twice in float32, and
// 150 bytes per row for candidates), average and complete the condensed float64
// matrix of n (n - 1) / 2 entries (average: sums of distances, so that a merge only adds and nothing is rounded twice).
// Shapes: rows (n, padded) from pad_rows, overwritten; z (n - 1, 4) = id, id, height, size as in SciPy.
// How: ward, average and complete in rounds (linkage_rounds.cpp): every cluster knows its nearest, all pairs that are each
// other's nearest merge at once, and only clusters that lost their nearest look again. Ward's clusters know their nearest few
// (ward_screen.h). single by Prim (linkage_single.cpp).
// Threads share the scans: blocks of clusters, or blocks of columns when few clusters scan.
// Numerics: float64 differences of rows (distance_tile.h); ward on data centred by numbers so short that the subtraction
// leaves integers and other short numbers exact; magnitudes beyond 1e100 are scaled by a power of two and back.
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

// Asked now and then, at least a few times per second; false stops the computation.
struct Monitor {
  bool (*proceed)(void* context, std::int64_t merges);
  void* context;
  bool operator()(std::int64_t merges) const { return proceed == nullptr || proceed(context, merges); }
};

// Fills z; false when the monitor stopped it. ward wants Metric::euclidean; cosine wants rows from prepare_rows. n >= 2.
// Throws std::bad_alloc when the memory is not there.
bool linkage(double* rows, std::int64_t n, std::int64_t padded, Linkage method, Metric metric, const Parallel& parallel,
             const Monitor& monitor, double* z);

// The same from distances as SciPy's pdist lays them out, n (n - 1) / 2 of them, finite, at least 0; overwritten. Not ward.
bool linkage_of_distances(double* condensed, std::int64_t n, Linkage method, const Parallel& parallel, const Monitor& monitor,
                          double* z);

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The nearest cluster by (distance, id), and the distance below which no other lies.
struct Nearest {
  double distance = kInfinity;
  double bound = kInfinity;
  std::int64_t id = -1;
};

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
    // Takes rows [begin, end) of the condensed matrix (m clusters) into best, bound and id, (m,) each, seen from both ends.
    // sizes: entries are sums to be divided by the product of the sizes; null: entries are distances. Dead clusters have
    // alive 0 and infinite entries.
    void condensed_nearest(const double* condensed, std::int64_t m, const double* sizes, const unsigned char* alive,
                           std::int64_t begin, std::int64_t end, double* best, double* bound, double* id);)

}  // namespace clustercl
