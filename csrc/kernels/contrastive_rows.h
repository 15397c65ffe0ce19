// What both passes of contrastive.h start from: unit rows in blocks, who is left out, and who the positives are.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned.h"
#include "contrastive.h"

namespace clustercl {

template <class T>
struct ContrastiveRows {
  ContrastiveTiles<T> tiles{};
  std::int64_t blocks, padded;
  double c;                             // the shift of contrastive.h
  std::vector<double> norm;             // of the rows as they came; 1 without `normalize`, 0 for a row of zeros
  std::vector<std::int64_t> positives;  // how many each row has
  std::vector<std::int64_t> order, begin, image;  // rows sorted by image; where an image begins in that; each row's image

  // Throws std::invalid_argument when an image has one row only.
  ContrastiveRows(const Contrastive<T>& in, const Parallel& parallel);
  ContrastiveRows(const ContrastiveRows&) = delete;

  // Whether a log-sum lies too far below c for exp(s - c) to hold every term that matters; NaN does not.
  bool too_low(double log_sum) const { return log_sum - c < kFloor; }

  // s of two rows, rounded to T.
  T similarity(std::int64_t i, std::int64_t j) const;

  // call(p) for the other rows of row i's image, in order.
  template <class F>
  void for_each_mate(std::int64_t i, const F& call) const {
    for (std::int64_t k = begin[image[i]]; k < begin[image[i] + 1]; ++k)
      if (order[k] != i) call(order[k]);
  }

 private:
  static constexpr double kFloor = sizeof(T) == 4 ? -55 : -650;
  Buffer<T> rows_, panels_;
  std::vector<RowId<T>> left_out_, group_, level_[kMaxLevels];

  void name_rows(const Contrastive<T>& in);
};

}  // namespace clustercl
