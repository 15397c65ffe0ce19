// The nearest clusters by float32 products: a few candidates per cluster, and a bound below which no other lies.
//
//   D(a, b) = 2 |c_a - c_b|^2 / (1/|a| + 1/|b|), a the clusters with centroids c and sizes: Ward's, and of rows |a - b|^2
//   screened: L(a, b) = 2 (N_a + N_b - 2 <c_a, c_b>) / (1/|a| + 1/|b|) <= D(a, b), products in float32
// Clusters of one group do not see each other: Ward's are groups of their own, the rows of single linkage are grouped by the
// parts of the spanning tree. Float64 decides (linkage_ward.cpp, linkage_boruvka.cpp).
// Rigour: rounding centroids to float32 and the products' d roundings move |c_a - c_b|^2 by less than kappa (|c_a|^2 + |c_b|^2)
// with kappa = (2 d + 64) 2^-24, so N_a = (1 - kappa) |c_a|^2 makes L a lower bound of D. Hence everything that is not among
// a cluster's kCandidates smallest L lies at least as far as the largest of them: the cluster's bound.
// Centroids are multiplied by a power of two that brings their largest element near 1: no square overflows, and what
// underflows is less than the 1e-36 by which N is smaller still. A point may be subtracted first: what float64 rounds there is
// a share of 2^-53 of what is left.
// Clusters that lie nearer to each other than that are told apart by the sums of squared differences s in float32, at half the
// speed: e = 2^-24 (|c_a| + |c_b|) bounds what rounding moves |c_a - c_b|, hence |c_a - c_b|^2 >= (1 - eta) s - e^2 / eta for any
// eta, here 2^-12, and with e^2 <= 2^-47 (|c_a|^2 + |c_b|^2) this is such an L again, with N_a = -2^-35 |c_a|^2 and for the
// roundings of s a share of (d + 64) 2^-24 less.
// Memory: every cluster's centroid twice in float32 (blocks.h) and its candidates; never a matrix.
// Threads: all against all meet in pairs.h, each tile used for its rows and its columns; some clusters against all by blocks
// of those clusters. Which candidates come out depends on neither, save for equal L, and what they are used for on none.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned.h"
#include "blocks.h"
#include "dispatch.h"
#include "linkage.h"
#include "parallel.h"

namespace clustercl {

// The smallest L of one cluster, ascending; places of the clusters among the columns, -1 where there are fewer.
struct Screened {
  float lower[kCandidates];
  std::int32_t place[kCandidates];
};

// What the float32 sums are made of.
enum class Sums { products, differences };

// Clusters as tile.h reads them. Padded ones have norm = inf.
struct ScreenSide {
  Sums sums;
  std::int64_t count;         // without the padding
  const float* rows;          // (blocks, kBlock, width)
  const float* panels;        // (blocks, kBlock, d); of the columns only
  const float* norm;          // N
  const float* inverse_size;  // 1 / size
  const std::int32_t* place;  // of a row among the columns
  const std::int32_t* group;  // at least 0
};

// Where clusters lie: points (clusters, d) by cluster, less middle (d) and times unit, a power of two that brings the largest
// element to about 1.
struct ScreenPoints {
  const double* points;
  std::int64_t d;
  const double* sizes;   // null: all 1
  const double* middle;  // null: nothing is subtracted
  double unit;
  Sums sums;
};

// Multiply-adds of a scan for which threads cost more than they bring, far more on a busy machine: about a millisecond.
constexpr std::int64_t kLittle = std::int64_t{1} << 26;

// Clusters whose candidates are measured between two questions to the monitor.
constexpr std::int64_t kAsk = 64;

// ScreenPoints::unit of elements up to `largest`. Its square is finite: what lies too near to 0 for that underflows in the
// screen, whose bounds are of no use then, but hold.
double screen_unit(double largest);

// Clusters packed into such a side; memory is kept from one packing to the next.
class ScreenPack {
 public:
  // places: of the clusters packed among `clusters`, null for all of them. groups, by place; null: each is its own. with_panels:
  // may be the columns.
  void pack(const ScreenPoints& from, const std::vector<std::int64_t>& clusters, const std::vector<std::int64_t>* places,
            const std::int32_t* groups, bool with_panels, const Parallel& parallel);
  std::int64_t blocks() const { return blocks_; }
  std::int64_t rows_in(std::int64_t block) const;
  std::int32_t only_group(std::int64_t block) const { return only_group_[block]; }  // of all in it; -1: of several
  ScreenSide view() const;

 private:
  Buffer<float> rows_, panels_, norm_, inverse_size_;
  std::vector<std::int32_t> place_, group_, only_group_;
  std::int64_t room_ = 0, count_ = 0, blocks_ = 0;
  Sums sums_ = Sums::products;
};

class GoOn;  // linkage_parts.h

class Screen {
 public:
  Screen();
  // Of each of `clusters` whose place is among `places`, ascending: lists()[r] of clusters[places[r]], seen among all of
  // `clusters`. False when stopped.
  bool scan(const ScreenPoints& from, const std::vector<std::int64_t>& clusters, const std::vector<std::int64_t>& places,
            const std::int32_t* groups, const Parallel& parallel, const Monitor& monitor, std::int64_t merges);
  const std::vector<Screened>& lists() const { return lists_; }

 private:
  // Both tell how many distances they screened.
  std::int64_t all_pairs(std::int64_t d, const std::vector<std::int64_t>& places, const Parallel& parallel, const GoOn& go_on);
  std::int64_t some_rows(std::int64_t d, std::int64_t count, const Parallel& parallel, const GoOn& go_on);

  ScreenPack columns_, rows_;
  std::vector<Screened> lists_;
  void (*tile_)(const ScreenSide&, const ScreenSide&, std::int64_t, std::int64_t, std::int64_t, bool, float*, Screened*);
};

CLUSTERCL_PER_ISA(
    // Takes the tile of block i of `a` and block j of `b` into the lists of a's rows; `both`: and of b's, which are a's too
    // (i <= j; the diagonal block once). A list whose last lower is -inf takes nothing. scratch: kBlock * kBlock floats, aligned
    // to 64 bytes.
    void screen_tile(const ScreenSide& a, const ScreenSide& b, std::int64_t d, std::int64_t i, std::int64_t j, bool both,
                     float* scratch, Screened* lists);)

}  // namespace clustercl
