// Ward's nearest clusters by float32 products: a few candidates per cluster, and a bound below which no other lies.
//
//   D(a, b) = 2 |c_a - c_b|^2 / (1/|a| + 1/|b|), a the clusters with centroids c and sizes; float64 decides (linkage_ward.cpp)
//   screened: L(a, b) = 2 (N_a + N_b - 2 <c_a, c_b>) / (1/|a| + 1/|b|) <= D(a, b), products in float32
// Rigour: rounding centroids to float32 and the products' d roundings move |c_a - c_b|^2 by less than kappa (|c_a|^2 + |c_b|^2)
// with kappa = (2 d + 64) 2^-24, so N_a = (1 - kappa) |c_a|^2 makes L a lower bound of D. Hence everything that is not among
// a cluster's kCandidates smallest L lies at least as far as the largest of them: the cluster's bound.
// Centroids are multiplied by a power of two that brings their largest element near 1: no square overflows, and what
// underflows is less than the 1e-36 by which N is smaller still.
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

// Clusters as tile.h reads them. Padded ones have norm = inf.
struct ScreenSide {
  std::int64_t count;         // without the padding
  const float* rows;          // (blocks, kBlock, width)
  const float* panels;        // (blocks, kBlock, d); of the columns only
  const float* norm;          // N
  const float* inverse_size;  // 1 / size
  const std::int32_t* place;  // of a row among the columns
};

// Clusters packed into such a side; memory is kept from one packing to the next.
class ScreenPack {
 public:
  // centroids (n, d) and sizes by cluster; unit a power of two that brings the largest element to about 1. with_panels: may
  // be the columns. place() is the caller's to fill.
  void pack(const double* centroids, std::int64_t d, const double* sizes, const std::vector<std::int64_t>& clusters,
            double unit, bool with_panels, const Parallel& parallel);
  std::int64_t blocks() const { return blocks_; }
  std::int32_t* place() { return place_.data(); }
  ScreenSide view() const;

 private:
  Buffer<float> rows_, panels_, norm_, inverse_size_;
  std::vector<std::int32_t> place_;
  std::int64_t room_ = 0, count_ = 0, blocks_ = 0;
};

CLUSTERCL_PER_ISA(
    // Takes the tile of block i of `a` and block j of `b` into the lists of a's rows; `both`: and of b's, which are a's too
    // (i <= j; the diagonal block once). scratch: kBlock * kBlock floats, aligned to 64 bytes.
    void ward_screen_tile(const ScreenSide& a, const ScreenSide& b, std::int64_t d, std::int64_t i,
                          std::int64_t j, bool both, float* scratch, Screened* lists);)

}  // namespace clustercl
