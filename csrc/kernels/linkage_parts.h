// What the files of the linkage share: how a merge is told, and what the rounds want of a kind of clusters.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "linkage.h"

namespace clustercl {

// Two clusters, each named by its smallest row, a < b; the union is named a.
struct Merge {
  std::int64_t a, b;
  double height;
};

// Candidates come in any order: equal distances go to the smaller id.
inline void take(Nearest& nearest, double distance, std::int64_t id) {
  if (distance < nearest.distance || (distance == nearest.distance && id < nearest.id)) {
    nearest.bound = nearest.distance;
    nearest.distance = distance;
    nearest.id = id;
  } else if (distance < nearest.bound) {
    nearest.bound = distance;
  }
}

inline void take(Nearest& nearest, const Nearest& other) {
  if (other.id >= 0) take(nearest, other.distance, other.id);
  if (other.bound < nearest.bound) nearest.bound = other.bound;
}

// What a scan may tell beside the nearest: the nearest few with their distances, and how far all others are at least.
struct Candidates {
  double beyond = kInfinity;
  double distance[kCandidates];
  std::int32_t id[kCandidates];
  int count = 0;
};

// Clusters and their distances under a reducible linkage: d(A + B, C) >= min(d(A, C), d(B, C)).
struct Space {
  virtual ~Space() = default;
  // nearest[r] for each cluster rows[r] among the active ones (both lists ascend), and candidates[r], whose count is 0 where
  // they are not told; false when stopped.
  virtual bool scan(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& active,
                    std::vector<Nearest>& nearest, std::vector<Candidates>& candidates, const Monitor& monitor,
                    std::int64_t merges) = 0;
  virtual double distance(std::int64_t a, std::int64_t b) const = 0;
  // Joins pairs (a ascends) that share no cluster, as if one after the other, and where it can (else nearest[p].id stays -1)
  // tells nearest[p] and candidates[p] of the union of pairs[p] after them all. False when stopped, and then nothing may be
  // asked any more.
  virtual bool merge(const std::vector<Merge>& pairs, std::vector<Nearest>& nearest, std::vector<Candidates>& candidates,
                     const Monitor& monitor, std::int64_t merges) = 0;
  // What no distance from the union of a and b (not merged yet, at distance `between`) to a cluster lies below that is at
  // least at beyond_a from a and at beyond_b from b.
  virtual double beyond_union(std::int64_t, std::int64_t, double /*between*/, double beyond_a, double beyond_b) const {
    return beyond_a < beyond_b ? beyond_a : beyond_b;
  }
  virtual double height(double distance) const = 0;
};

// Appends the n - 1 merges of clusters 0 .. n - 1; false when stopped.
bool merge_by_rounds(Space& space, std::int64_t n, const Parallel& parallel, const Monitor& monitor,
                     std::vector<Merge>& merges);
// sizes: of the clusters in rows.
bool merge_ward(double* rows, const std::vector<double>& sizes, std::int64_t padded, const Parallel& parallel,
                const Monitor& monitor, std::vector<Merge>& merges);
// T, double or Compact, is what the matrix of distances holds. exponent: distances are divided by 2^exponent.
template <class T>
bool merge_condensed(const double* rows, const std::vector<double>& sizes, std::int64_t padded, Linkage method, Metric metric,
                     const Parallel& parallel, const Monitor& monitor, std::vector<Merge>& merges);
template <class T>
bool merge_distances(const double* condensed, std::int64_t n, int exponent, Linkage method, const Parallel& parallel,
                     const Monitor& monitor, std::vector<Merge>& merges);
// An edge of the minimum spanning tree, whose merges single linkage is; where lengths are equal, rows are looked at again.
struct Edge {
  double square;
  std::int64_t a, b;
};
bool merge_spanning_tree(std::vector<Edge>& edges, const double* rows, std::int64_t n, std::int64_t padded, Metric metric,
                         const Parallel& parallel, const Monitor& monitor, std::vector<Merge>& merges);
bool merge_single(const double* rows, std::int64_t n, std::int64_t padded, Metric metric, const Parallel& parallel,
                  const Monitor& monitor, std::vector<Merge>& merges);

// What comes before and after the merging, for the CPU and the GPU alike.
// The power of two that brings numbers up to `largest` below 1/2, when their squares could leave the range of float64, or always.
int exponent_of(double largest, bool always = false);

// By feature: its sum, kSumRows rows at a time and those sums added up, and its range.
constexpr std::int64_t kSumRows = 1024;
struct Columns {
  std::vector<double> sum, low, high;
};
// What to subtract from each feature, 0 where it would not get half as large: the mean, rounded to 12 bits below the largest
// value, so that the subtraction stays exact for integers and other short numbers and ties survive. A feature in which any
// value would lose a digit is to stay as it is, too.
std::vector<double> middle_of(const Columns& columns, std::int64_t n);

// The power of two by which distances of rows whose largest element is `largest` come below 1/2 (compact.h).
double compact_unit(double largest, std::int64_t padded, Metric metric);

// Merges may come in any order in which a cluster follows its parts. The greedy order is: the smallest (height, a, b)
// among the merges whose parts exist. A parent that rounding put below its part is lifted to it. Heights times 2^exponent.
void write_merges(std::vector<Merge>& merges, std::int64_t n, int exponent, double* z);

// For work that several threads share: the calling thread, which works too, asks the monitor, the others look whether it was
// told to stop.
class GoOn {
 public:
  GoOn(const Monitor& monitor, std::int64_t merges) : monitor_(monitor), merges_(merges) {}
  bool operator()() const {
    if (std::this_thread::get_id() == caller_ && !stopped_ && !monitor_(merges_)) stopped_ = true;
    return !stopped_;
  }

 private:
  const Monitor& monitor_;
  const std::int64_t merges_;
  const std::thread::id caller_ = std::this_thread::get_id();
  mutable std::atomic<bool> stopped_{false};
};

// A distance may be off by its rounding; nearer to another one than that counts as a tie.
constexpr double kSlack = 1e-10;

// Multiply-adds between two questions to the monitor: some 20 ms with AVX-512, half a second in the portable version, but
// 15 s where the CPU has no fused multiply-add and libm computes it.
constexpr std::int64_t kWorkPerSlice = std::int64_t{1} << 27;

}  // namespace clustercl
