#include "linkage_screen.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "linkage_parts.h"
#include "pairs.h"

namespace clustercl {

namespace {

constexpr std::int64_t kGroup = 4;  // blocks that a task takes together

Screened list_of(float lower) {
  Screened list;
  std::fill_n(list.lower, kCandidates, lower);
  std::fill_n(list.place, kCandidates, -1);
  return list;
}

const Screened kNothing = list_of(std::numeric_limits<float>::infinity()), kClosed = list_of(-std::numeric_limits<float>::infinity());

void put_together(Screened& list, const Screened& other) {
  Screened both;
  for (int k = 0, x = 0, y = 0; k < kCandidates; ++k) {
    const bool first = list.lower[x] <= other.lower[y];
    both.lower[k] = first ? list.lower[x] : other.lower[y];
    both.place[k] = first ? list.place[x++] : other.place[y++];
  }
  list = both;
}

}  // namespace

double screen_unit(double largest) {
  int exponent = 0;
  if (largest > 0) std::frexp(largest, &exponent);
  return std::ldexp(1.0, std::min(-exponent, 500));
}

std::int64_t ScreenPack::rows_in(std::int64_t block) const { return std::min<std::int64_t>(kBlock, count_ - block * kBlock); }

ScreenSide ScreenPack::view() const {
  return {sums_, count_, rows_.get(), panels_.get(), norm_.get(), inverse_size_.get(), place_.data(), group_.data()};
}

void ScreenPack::pack(const ScreenPoints& from, const std::vector<std::int64_t>& clusters,
                      const std::vector<std::int64_t>* places, const std::int32_t* groups, bool with_panels,
                      const Parallel& parallel) {
  const std::int64_t d = from.d, width = padded_width<float>(d);
  count_ = static_cast<std::int64_t>(places == nullptr ? clusters.size() : places->size());
  blocks_ = (count_ + kBlock - 1) / kBlock;
  if (blocks_ > room_) {
    room_ = blocks_;
    rows_.reset();  // before the new ones are there, for the peak's sake
    panels_.reset();
    rows_ = buffer<float>(room_ * kBlock * width);
    if (with_panels) panels_ = buffer<float>(room_ * kBlock * d);
    norm_ = buffer<float>(room_ * kBlock);
    inverse_size_ = buffer<float>(room_ * kBlock);
    place_.resize(room_ * kBlock);
    group_.resize(room_ * kBlock);
    only_group_.resize(room_);
  }
  sums_ = from.sums;
  // Of a cluster's square, what N is.
  const double share = sums_ == Sums::products ? 1 - static_cast<double>(2 * d + 64) * 0x1p-24 : -0x1p-35;
  parallel.for_each(0, blocks_, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * kBlock; i < end * kBlock; ++i) {
      const bool real = i < count_;
      const std::int64_t place = !real ? -1 : places == nullptr ? i : (*places)[i];
      const double* x = real ? from.points + clusters[place] * d : nullptr;
      double square = 0;
      for (std::int64_t f = 0; f < width; f += kPanel<float>) {
        float* row = rows_.get() + row_offset<float>(i, f, width);
        for (std::int64_t k = 0; k < kPanel<float>; ++k) {
          double value = real && f + k < d ? x[f + k] : 0;
          if (from.middle != nullptr && real && f + k < d) value -= from.middle[f + k];
          value *= from.unit;
          row[k] = static_cast<float>(value);
          square += value * value;
        }
        if (!with_panels) continue;
        float* panel = panels_.get() + i / kPanel<float> * kPanel<float> * d + i % kPanel<float>;
        for (std::int64_t k = 0; k < kPanel<float> && f + k < d; ++k) panel[(f + k) * kPanel<float>] = row[k];
      }
      norm_[i] = real ? static_cast<float>(share * square - 1e-36) : std::numeric_limits<float>::infinity();
      inverse_size_[i] = real && from.sizes != nullptr ? static_cast<float>(1 / from.sizes[clusters[place]]) : 1.0f;
      place_[i] = static_cast<std::int32_t>(place);
      group_[i] = real && groups != nullptr ? groups[place] : place_[i];
      std::int32_t& only = only_group_[i / kBlock];
      if (i % kBlock == 0) only = group_[i];
      if (real && only != group_[i]) only = -1;
    }
  });
}

Screen::Screen() : tile_(CLUSTERCL_PICK(screen_tile)) {}

bool Screen::scan(const ScreenPoints& from, const std::vector<std::int64_t>& clusters, const std::vector<std::int64_t>& places,
                  const std::int32_t* groups, const Parallel& parallel, const Monitor& monitor, std::int64_t merges) {
  const std::int64_t count = static_cast<std::int64_t>(places.size()), columns = static_cast<std::int64_t>(clusters.size());
  columns_.pack(from, clusters, nullptr, groups, true, parallel);
  const GoOn go_on(monitor, merges);
  if (2 * count > columns) {  // a pair that is looked at once serves both
    monitor.effort.distances += all_pairs(from.d, places, parallel, go_on);
  } else {
    rows_.pack(from, clusters, &places, groups, false, parallel);
    monitor.effort.distances += some_rows(from.d, count, parallel, go_on);
  }
  return go_on();
}

std::int64_t Screen::all_pairs(std::int64_t d, const std::vector<std::int64_t>& places, const Parallel& parallel,
                               const GoOn& go_on) {
  const ScreenSide side = columns_.view();
  std::vector<char> looks(columns_.blocks(), 0);
  lists_.assign(side.count, kClosed);
  for (const std::int64_t place : places) {
    lists_[place] = kNothing;
    looks[place / kBlock] = 1;
  }
  std::atomic<std::int64_t> distances{0};
  for_each_pair((columns_.blocks() + kGroup - 1) / kGroup, parallel, [&](std::int64_t p, std::int64_t q) {
    alignas(64) float scratch[kBlock * kBlock];
    for (std::int64_t i = p * kGroup; i < std::min((p + 1) * kGroup, columns_.blocks()); ++i)
      for (std::int64_t j = std::max(i, q * kGroup); j < std::min((q + 1) * kGroup, columns_.blocks()) && go_on(); ++j)
        if ((looks[i] || looks[j]) && (columns_.only_group(i) < 0 || columns_.only_group(i) != columns_.only_group(j))) {
          tile_(side, side, d, i, j, true, scratch, lists_.data());
          distances += i == j ? columns_.rows_in(i) * (columns_.rows_in(i) - 1) / 2 : columns_.rows_in(i) * columns_.rows_in(j);
        }
  });
  for (std::size_t r = 0; r < places.size(); ++r) lists_[r] = lists_[places[r]];
  return distances;
}

std::int64_t Screen::some_rows(std::int64_t d, std::int64_t count, const Parallel& parallel, const GoOn& go_on) {
  // Few blocks of rows: the columns are split too, and the lists put together.
  const std::int64_t blocks = columns_.blocks();
  const std::int64_t parts = rows_.blocks() < 2 * parallel.threads ? std::min<std::int64_t>(2 * parallel.threads, blocks) : 1;
  lists_.assign(parts * count, kNothing);
  const ScreenSide left = rows_.view(), right = columns_.view();
  std::atomic<std::int64_t> next{0}, distances{0};
  parallel.for_each(0, parallel.threads, 1, [&](std::int64_t, std::int64_t) {
    alignas(64) float scratch[kBlock * kBlock];
    for (std::int64_t task; (task = next.fetch_add(1)) < parts * rows_.blocks();) {
      const std::int64_t part = task % parts, i = task / parts;
      for (std::int64_t j = blocks * part / parts; j < blocks * (part + 1) / parts && go_on(); ++j)
        if (rows_.only_group(i) < 0 || rows_.only_group(i) != columns_.only_group(j)) {
          tile_(left, right, d, i, j, false, scratch, lists_.data() + part * count);
          distances += rows_.rows_in(i) * columns_.rows_in(j);
        }
    }
  });
  for (std::int64_t part = 1; part < parts; ++part)
    for (std::int64_t r = 0; r < count; ++r) put_together(lists_[r], lists_[part * count + r]);
  return distances;
}

}  // namespace clustercl
