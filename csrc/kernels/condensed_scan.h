// The nearest few of clusters, from a condensed matrix of distances (linkage_condensed.cpp).
//
//   list(r) = the kCandidates smallest (entry(i, j) / (weight_i weight_j), j) over living j, for each i = rows[r]
//
// When many clusters look, one pass over the matrix, row by row in memory, serves them all; when few do, each reads its own row
// and column. Shapes: entries of m places; weights (m,), 0 for a dead cluster; rows and living by ascending place. Memory: a list
// for each place, or for each row and thread. Threads take parts of the matrix, or of rows. Determinism: a list depends on what
// lies in the matrix alone, as equal distances compare by place.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "linkage_parts.h"

namespace clustercl {

inline Listed empty_list() {
  Listed list;
  std::fill_n(list.distance, kCandidates, kInfinity);
  std::fill_n(list.place, kCandidates, -1);
  return list;
}

// What either list holds, in `list`.
inline void put_together(Listed& list, const Listed& other) {
  Listed both;
  for (int k = 0, x = 0, y = 0; k < kCandidates; ++k) {
    const bool first = list.distance[x] < other.distance[y] ||
                       (list.distance[x] == other.distance[y] && list.place[x] < other.place[y]);
    both.distance[k] = first ? list.distance[x] : other.distance[y];
    both.place[k] = first ? list.place[x++] : other.place[y++];
  }
  list = both;
}

// task(t, thread) for 0 <= t < count, whichever thread is free next.
template <class F>
void shared(const Parallel& parallel, std::int64_t count, const F& task) {
  std::atomic<std::int64_t> next{0};
  parallel.for_each(0, parallel.threads, 1, [&](std::int64_t thread, std::int64_t) {
    for (std::int64_t t; (t = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(t, thread);
  });
}

template <class T>
class CondensedScan {
 public:
  explicit CondensedScan(const Parallel& parallel) : parallel_(parallel) {}

  // rows and living are places. False when stopped.
  bool run(const T* entries, std::int64_t m, const double* weights, const std::vector<std::int64_t>& rows,
           const std::vector<std::int64_t>& living, const Monitor& monitor, std::int64_t merges) {
    all_ = static_cast<std::int64_t>(rows.size()) * kRowsPerSweep > m;
    return all_ ? sweep(entries, m, weights, rows, monitor, merges) : each(entries, m, weights, rows, living, monitor, merges);
  }

  // Of rows[r], whose place that is, in the last run.
  const Listed& list(std::size_t r, std::int64_t place) const { return lists_[all_ ? place : static_cast<std::int64_t>(r)]; }

 private:
  static constexpr std::int64_t kRowsPerSweep = 12;  // a scanned row costs about this many rows of a pass: its column is strided
  // Between two questions to the monitor: where rows come in order, as on a line, every entry enters a list, a quarter of a second.
  static constexpr std::int64_t kEntriesPerSlice = std::int64_t{1} << 23;

  // By threads that take parts of rows.
  bool each(const T* entries, std::int64_t m, const double* weights, const std::vector<std::int64_t>& rows,
            const std::vector<std::int64_t>& living, const Monitor& monitor, std::int64_t merges) {
    const auto nearest_of = CLUSTERCL_PICK(condensed_nearest_of<T>);
    const std::int64_t count = static_cast<std::int64_t>(rows.size()), columns = static_cast<std::int64_t>(living.size());
    const bool little = count * columns < (1 << 16);
    const Parallel parallel = little ? Parallel::alone() : parallel_;
    const std::int64_t parts = little ? 1 : std::max<std::int64_t>(1, 4 * parallel.threads / count);
    lists_.assign(parts * count, empty_list());
    const GoOn go_on(monitor, merges);
    shared(parallel, parts * count, [&](std::int64_t task, std::int64_t) {
      const std::int64_t r = task % count, part = task / count;
      const std::int64_t from = columns * part / parts, to = columns * (part + 1) / parts;
      if (go_on()) nearest_of(entries, m, weights, rows[r], living.data() + from, to - from, lists_[task]);
    });
    for (std::int64_t part = 1; part < parts; ++part)
      for (std::int64_t r = 0; r < count; ++r) put_together(lists_[r], lists_[part * count + r]);
    return go_on();
  }

  // lists_[place] of each of `rows`, all from one pass.
  bool sweep(const T* entries, std::int64_t m, const double* weights, const std::vector<std::int64_t>& rows,
             const Monitor& monitor, std::int64_t merges) {
    const auto nearest = CLUSTERCL_PICK(condensed_nearest<T>);
    const std::int64_t chunks = m < 1024 ? 1 : parallel_.threads;
    lists_.assign(chunks * m, empty_list());
    limit_.assign(chunks * m, -1.0);
    for (std::int64_t c = 0; c < chunks; ++c)
      for (const std::int64_t place : rows) limit_[c * m + place] = kInfinity;
    for (std::int64_t from = 0; from < m;) {
      if (!monitor(merges)) return false;
      std::int64_t to = from;  // rows [from, to) hold about a slice of entries
      for (std::int64_t work = 0; to < m && work < kEntriesPerSlice; ++to) work += m - to;
      parallel_.for_each(0, chunks, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c)
          nearest(entries, m, weights, cut(m, from, to, c, chunks), cut(m, from, to, c + 1, chunks), limit_.data() + c * m,
                  lists_.data() + c * m);
      });
      from = to;
    }
    for (const std::int64_t place : rows)
      for (std::int64_t c = 1; c < chunks; ++c) put_together(lists_[place], lists_[c * m + place]);
    return true;
  }

  // Rows [from, to) of m cut into `chunks` of about equal area.
  static std::int64_t cut(std::int64_t m, std::int64_t from, std::int64_t to, std::int64_t c, std::int64_t chunks) {
    if (c == 0) return from;
    const auto area = [&](std::int64_t row) { return (2 * m - from - row - 1) * (row - from); };
    std::int64_t low = from, high = to;
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if (area(middle) * chunks < area(to) * c) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  const Parallel& parallel_;
  bool all_ = false;
  std::vector<Listed> lists_;
  std::vector<double> limit_;
};

}  // namespace clustercl
