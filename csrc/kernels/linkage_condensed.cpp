// Average, complete and (of given distances) single linkage on a condensed matrix of distances, for average of their sums.
//
// Clusters keep their order in the matrix, so that a place tells the smaller id; a dead cluster's entries are infinite, and
// the matrix is closed up in place when a third of it is dead. When many clusters look for their nearest, one pass over
// the matrix, row by row in memory, serves them all; when few do, each reads its own row and column.
#include <algorithm>
#include <atomic>
#include <memory>

#include "linkage_parts.h"

namespace clustercl {

namespace {

constexpr std::int64_t kRows = 64;          // that a thread takes at a time when pairs merge
constexpr std::int64_t kRowsPerSweep = 8;  // one scanned row costs about this many rows of a pass, its column being strided

class Condensed final : public Space {
 public:
  // entries: n (n - 1) / 2 distances, or room for fill to write them; overwritten.
  Condensed(double* entries, std::int64_t n, Linkage method, const Parallel& parallel)
      : m_(n), method_(method), average_(method == Linkage::average), parallel_(parallel), entries_(entries),
        sizes_(n, 1.0), alive_(n, 1), id_(n), place_(n) {
    for (std::int64_t i = 0; i < n; ++i) id_[i] = place_[i] = i;
  }

  bool fill(const double* rows, std::int64_t padded, Metric metric, const Monitor& monitor) {
    const auto condensed_rows = CLUSTERCL_PICK(condensed_rows);
    constexpr std::int64_t kBlock = 32;
    const std::int64_t slice = std::max(kBlock * parallel_.threads, kWorkPerSlice / (m_ * padded) / kBlock * kBlock);
    for (std::int64_t from = 0; from < m_; from += slice) {
      if (!monitor(0)) return false;
      const std::int64_t to = std::min(m_, from + slice);
      parallel_.for_each(0, (to - from + kBlock - 1) / kBlock, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = from + begin * kBlock; i < std::min(to, from + end * kBlock); i += kBlock)
          condensed_rows(rows, i, std::min(to, i + kBlock), m_, padded, metric, entries_);
      });
    }
    return true;
  }

  bool scan(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& active, std::vector<Nearest>& nearest,
            std::vector<Candidates>&, const Monitor& monitor, std::int64_t merges) override {
    if (static_cast<std::int64_t>(active.size()) * 3 < m_ * 2 && !close_up(active, monitor, merges)) return false;
    if (static_cast<std::int64_t>(rows.size()) * kRowsPerSweep > m_) return sweep(rows, nearest, monitor, merges);
    const std::int64_t count = static_cast<std::int64_t>(rows.size());
    const std::int64_t slice = std::max<std::int64_t>(parallel_.threads, kWorkPerSlice / 8 / m_);
    for (std::int64_t from = 0; from < count; from += slice) {
      if (!monitor(merges)) return false;
      const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / m_);
      parallel_.for_each(from, std::min(count, from + slice), grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r)
          for (const std::int64_t other : active)
            if (other != rows[r]) take(nearest[r], distance(rows[r], other), other);
      });
    }
    return true;
  }

  double distance(std::int64_t a, std::int64_t b) const override {
    const std::int64_t i = place_[a], j = place_[b];
    return average_ ? entry(i, j) / (sizes_[i] * sizes_[j]) : entry(i, j);
  }

  // All pairs of a round in one pass over the matrix, row by row in memory: with the clusters that stay as they are first,
  // then pairs with pairs, each sum in the order in which the pairs would merge one after the other.
  bool merge(const std::vector<Merge>& pairs, const Monitor& monitor, std::int64_t merges) override {
    std::vector<Pair> by_place;
    for (const Merge& pair : pairs) {
      const std::int64_t i = place_[pair.a], j = place_[pair.b];
      by_place.push_back({i, j});
      alive_[i] = alive_[j] = 0;  // until the end of this
    }
    std::vector<Pair> sorted = by_place;
    std::sort(sorted.begin(), sorted.end(), [](const Pair& x, const Pair& y) { return x.i < y.i; });
    const std::int64_t count = static_cast<std::int64_t>(pairs.size()), blocks = (m_ + kRows - 1) / kRows;
    const bool little = count * m_ < (1 << 16);
    const Parallel parallel = little ? Parallel::alone() : parallel_;
    const GoOn go_on(monitor, merges);
    shared(parallel, blocks, [&](std::int64_t block) {
      if (go_on()) merge_rows(sorted, block * kRows, std::min(m_, (block + 1) * kRows));
    });
    shared(parallel, count, [&](std::int64_t second) {
      const auto [p, q] = by_place[second];
      for (std::int64_t first = 0; first < second && go_on(); ++first) {
        const auto [i, j] = by_place[first];
        double &x = entry(i, p), &y = entry(i, q);
        x = joined(joined(x, entry(j, p)), joined(y, entry(j, q)));
        y = entry(j, p) = entry(j, q) = kInfinity;
      }
    });
    for (const auto& [i, j] : by_place) {
      entry(i, j) = kInfinity;
      sizes_[i] += sizes_[j];
      alive_[i] = 1;
    }
    return go_on();
  }

  double height(double distance) const override { return distance; }

 private:
  struct Pair {
    std::int64_t i, j;  // places, i < j
  };

  double joined(double x, double y) const {
    return average_ ? x + y : method_ == Linkage::complete ? std::max(x, y) : std::min(x, y);
  }

  // The rows k in [from, to) of clusters that do not merge; `pairs` by ascending i.
  void merge_rows(const std::vector<Pair>& pairs, std::int64_t from, std::int64_t to) {
    for (std::int64_t k = from; k < to; ++k) {
      if (!alive_[k]) continue;
      double* row = entries_ + condensed_offset(k, m_);
      for (const auto& [i, j] : pairs) {
        if (k > j) continue;
        double& x = k < i ? row[i] : entries_[condensed_offset(i, m_) + k];
        x = joined(x, row[j]);
        row[j] = kInfinity;
      }
    }
    for (const auto& [i, j] : pairs) {
      if (i >= to) break;
      double *x = entries_ + condensed_offset(i, m_), *y = entries_ + condensed_offset(j, m_);
      for (std::int64_t k = std::max(from, j + 1); k < to; ++k) {
        if (!alive_[k]) continue;
        x[k] = joined(x[k], y[k]);
        y[k] = kInfinity;
      }
    }
  }

  // task(t) for 0 <= t < count, whoever is free next.
  template <class F>
  static void shared(const Parallel& parallel, std::int64_t count, const F& task) {
    std::atomic<std::int64_t> next{0};
    parallel.for_each(0, parallel.threads, 1, [&](std::int64_t, std::int64_t) {
      for (std::int64_t t; (t = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(t);
    });
  }

  double& entry(std::int64_t i, std::int64_t j) const {
    return entries_[i < j ? condensed_offset(i, m_) + j : condensed_offset(j, m_) + i];
  }

  // Order is kept, so every entry moves towards the front, past none that is still wanted.
  bool close_up(const std::vector<std::int64_t>& active, const Monitor& monitor, std::int64_t merges) {
    const std::int64_t m = static_cast<std::int64_t>(active.size());
    double* to = entries_;
    for (std::int64_t p = 0; p < m; ++p) {
      if (!monitor(merges)) return false;
      const double* row = entries_ + condensed_offset(place_[active[p]], m_);
      for (std::int64_t q = p + 1; q < m; ++q) *to++ = row[place_[active[q]]];
    }
    for (std::int64_t p = 0; p < m; ++p) {
      sizes_[p] = sizes_[place_[active[p]]];
      alive_[p] = 1;
      id_[p] = active[p];
    }
    for (std::int64_t p = 0; p < m; ++p) place_[active[p]] = p;
    m_ = m;
    return true;
  }

  bool sweep(const std::vector<std::int64_t>& rows, std::vector<Nearest>& nearest, const Monitor& monitor,
             std::int64_t merges) {
    const auto condensed_nearest = CLUSTERCL_PICK(condensed_nearest);
    const std::int64_t chunks = m_ < 1024 ? 1 : parallel_.threads;
    best_.assign(chunks * m_, kInfinity);
    bound_.assign(chunks * m_, kInfinity);
    id_of_best_.assign(chunks * m_, -1.0);
    for (std::int64_t from = 0; from < m_;) {
      if (!monitor(merges)) return false;
      std::int64_t to = from;  // rows [from, to) hold about a slice of entries
      for (std::int64_t work = 0; to < m_ && work < kWorkPerSlice; ++to) work += m_ - to;
      parallel_.for_each(0, chunks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c)
          condensed_nearest(entries_, m_, average_ ? sizes_.data() : nullptr, alive_.data(), cut(from, to, c, chunks),
                            cut(from, to, c + 1, chunks), best_.data() + c * m_, bound_.data() + c * m_,
                            id_of_best_.data() + c * m_);
      });
      from = to;
    }
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (std::int64_t at = place_[rows[r]]; at < chunks * m_; at += m_) {
        const std::int64_t id = id_of_best_[at] < 0 ? -1 : id_[static_cast<std::int64_t>(id_of_best_[at])];
        take(nearest[r], Nearest{best_[at], bound_[at], id});
      }
    return true;
  }

  // Rows [from, to) cut into `chunks` of about equal area.
  std::int64_t cut(std::int64_t from, std::int64_t to, std::int64_t c, std::int64_t chunks) const {
    if (c == 0) return from;
    const auto area = [&](std::int64_t row) { return (2 * m_ - from - row - 1) * (row - from); };
    std::int64_t low = from, high = to;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (area(middle) * chunks < area(to) * c) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  std::int64_t m_;
  Linkage method_;
  bool average_;
  const Parallel& parallel_;
  double* entries_;
  std::vector<double> sizes_;
  std::vector<unsigned char> alive_;
  std::vector<std::int64_t> id_, place_;  // cluster of a place, place of a cluster
  std::vector<double> best_, bound_, id_of_best_;
};

}  // namespace

bool merge_condensed(const double* rows, std::int64_t n, std::int64_t padded, Linkage method, Metric metric,
                     const Parallel& parallel, const Monitor& monitor, std::vector<Merge>& merges) {
  const std::unique_ptr<double[]> entries(new double[n * (n - 1) / 2]);
  Condensed space(entries.get(), n, method, parallel);
  return space.fill(rows, padded, metric, monitor) && merge_by_rounds(space, n, parallel, monitor, merges);
}

bool merge_distances(double* condensed, std::int64_t n, Linkage method, const Parallel& parallel, const Monitor& monitor,
                     std::vector<Merge>& merges) {
  Condensed space(condensed, n, method, parallel);
  return merge_by_rounds(space, n, parallel, monitor, merges);
}

}  // namespace clustercl
