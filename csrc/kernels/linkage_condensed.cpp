// Average, complete and (of given distances) single linkage on a condensed matrix: for average of the sums of distances in
// float64, or of their means in half the memory (compact.h), otherwise of distances.
//
// Clusters keep their order in the matrix, so that a place tells the smaller id; a dead cluster has weight 0, whatever its
// entries hold, and the matrix is closed up in place when half of it is dead. A scan tells each cluster's nearest few, so that
// most find their next without another, and a merge, which passes over all distances of the new cluster, tells its nearest
// few as well (condensed_scan.h has the scans).
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "aligned.h"
#include "condensed.h"
#include "condensed_scan.h"
#include "linkage_join.h"
#include "linkage_parts.h"

namespace clustercl {

namespace {

constexpr std::int64_t kRows = 64;         // that a thread takes at a time when pairs merge
constexpr std::int64_t kAhead = 48;        // pairs that a row's entries are fetched ahead
constexpr std::int64_t kFew = 32;          // of so many pairs at most entries are gathered, pair by pair
constexpr std::int64_t kDense = 16;        // where fewer than one in so many clusters merges, entries are fetched ahead

template <class T>
class Condensed final : public Space {
 public:
  // entries: distances of clusters of these sizes, times unit, a power of two; overwritten.
  Condensed(T* entries, const std::vector<double>& sizes, double unit, Linkage method, const Parallel& parallel)
      : m_(sizes.size()), method_(method), unit_(unit), parallel_(parallel), entries_(entries), weights_(m_, 1.0), sizes_(sizes),
        id_(m_), place_(m_), scan_(parallel), scratch_(2 * m_) {
    for (std::int64_t i = 0; i < m_; ++i) id_[i] = place_[i] = i;
    if (kind() == Join::sum) weights_ = sizes;
    staying_ = weights_;
  }

  // Distances become sums over the rows of both clusters, added as merges of single rows would have, to the last bit. Before all
  // else; false when stopped.
  bool add_up(const Monitor& monitor, std::int64_t merges) {
    const auto times = [](double x, double count) {
      double sum = x;
      for (double k = 1; k < count; ++k) sum += x;
      return sum;
    };
    if (std::all_of(weights_.begin(), weights_.end(), [](double weight) { return weight == 1; })) return true;
    const GoOn go_on(monitor, merges);
    shared(parallel_, m_, [&](std::int64_t i, std::int64_t) {
      if (!go_on()) return;
      for (std::int64_t j = i + 1; j < m_; ++j) pack(times(times(unpack(row(i)[j]), weights_[i]), weights_[j]), row(i)[j]);
    });
    return go_on();
  }

  bool scan(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& active, std::vector<Nearest>& nearest,
            std::vector<Candidates>& candidates, const Monitor& monitor, std::int64_t merges) override {
    if (static_cast<std::int64_t>(active.size()) * 2 < m_ && !close_up(active, monitor, merges)) return false;
    const std::vector<std::int64_t> looking = places(rows);
    if (!scan_.run(entries_, m_, weights_.data(), looking, places(active), monitor, merges)) return false;
    for (std::size_t r = 0; r < rows.size(); ++r) tell(scan_.list(r, looking[r]), nearest[r], candidates[r]);
    return true;
  }

  double distance(std::int64_t a, std::int64_t b) const override {
    const std::int64_t i = place_[a], j = place_[b];
    return unpack(entry(i, j)) / (weights_[i] * weights_[j]);
  }

  bool merge(const std::vector<Merge>& pairs, std::vector<Nearest>& nearest, std::vector<Candidates>& candidates,
             const Monitor& monitor, std::int64_t merges) override {
    if (!join(pairs, GoOn(monitor, merges))) return false;
    const std::size_t count = pairs.size();
    for (std::size_t p = 0; p < count; ++p) {
      for (std::size_t s = p + count; s < lists_.size(); s += count) put_together(lists_[p], lists_[s]);
      tell(lists_[p], nearest[p], candidates[p]);
    }
    return true;
  }

  double height(double distance) const override { return distance / unit_; }

 private:
  static constexpr bool kSums = std::is_same_v<T, double>;  // what average keeps; means otherwise

  // The pairs of a round, as linkage_join.h wants them, and what each thread finds near their unions.
  struct Pairs {
    std::vector<std::int32_t> i, j;
    std::vector<double> share, weight;
    std::vector<double> limit;  // of all threads one after the other, count + 7 each

    Pairs(std::int64_t count, std::int64_t threads)
        : i(count), j(count), share(count + 7), weight(count + 7), limit(threads * (count + 7), kInfinity) {}
    std::int64_t count() const { return static_cast<std::int64_t>(i.size()); }
    Joining of_thread(std::int64_t thread, Listed* lists) {
      return {i.data(), j.data(), share.data(), weight.data(), limit.data() + thread * (count() + 7), lists + thread * count()};
    }
  };

  std::vector<std::int64_t> places(const std::vector<std::int64_t>& ids) const {
    std::vector<std::int64_t> out;
    out.reserve(ids.size());
    for (const std::int64_t id : ids) out.push_back(place_[id]);
    return out;
  }

  T* row(std::int64_t i) const { return entries_ + condensed_offset(i, m_); }
  T& entry(std::int64_t i, std::int64_t j) const { return i < j ? row(i)[j] : row(j)[i]; }

  Join kind() const {
    if (method_ == Linkage::average) return kSums ? Join::sum : Join::mean;
    return method_ == Linkage::complete ? Join::largest : Join::smallest;
  }

  double joined(double x, double y, double share) const {
    switch (kind()) {
      case Join::sum: return x + y;
      case Join::mean: return x + share * (y - x);
      case Join::largest: return x < y ? y : x;
      default: return y < x ? y : x;
    }
  }

  // All pairs of a round in one pass over the matrix, row by row in memory: with the clusters that stay as they are first,
  // then pairs with pairs, each sum in the order in which the pairs would merge one after the other; `merging` by ascending a.
  // lists_[s * pairs + p] is what thread s found near the union of pair p.
  bool join(const std::vector<Merge>& merging, const GoOn& go_on) {
    const std::int64_t count = static_cast<std::int64_t>(merging.size());
    const bool little = count * m_ < (1 << 18);  // a millisecond: for less, threads bring nothing and cost much on a busy machine
    const Parallel parallel = little ? Parallel::alone() : parallel_;
    Pairs pairs(count, parallel.threads);
    for (std::int64_t p = 0; p < count; ++p) {
      const std::int64_t i = place_[merging[p].a], j = place_[merging[p].b];
      const double size = sizes_[i] + sizes_[j];
      pairs.i[p] = static_cast<std::int32_t>(i);
      pairs.j[p] = static_cast<std::int32_t>(j);
      pairs.weight[p] = kind() == Join::sum ? size : 1.0;
      pairs.share[p] = sizes_[j] / size;
      staying_[i] = staying_[j] = 0;
    }
    lists_.assign(parallel.threads * count, empty_list());
    if (little && count <= kFew) {
      const auto join_few = CLUSTERCL_PICK(join_few<T>);
      join_few(kind(), entries_, m_, staying_.data(), pairs.of_thread(0, lists_.data()), count, scratch_.data());
    } else {
      shared(parallel, (m_ + kRows - 1) / kRows, [&](std::int64_t block, std::int64_t thread) {
        if (go_on())
          join_rows(pairs.of_thread(thread, lists_.data()), count, block * kRows, std::min(m_, (block + 1) * kRows));
      });
    }
    shared(parallel, count, [&](std::int64_t first, std::int64_t thread) {
      if (go_on()) join_unions(pairs.of_thread(thread, lists_.data()), count, first);
    });
    for (std::int64_t p = 0; p < count; ++p) {
      const std::int64_t i = pairs.i[p], j = pairs.j[p];
      staying_[i] = weights_[i] = pairs.weight[p];
      weights_[j] = 0;
      sizes_[i] += sizes_[j];
    }
    return go_on();
  }

  // The rows k in [from, to) of clusters that stay; pairs by ascending i.
  void join_rows(const Joining& pairs, std::int64_t count, std::int64_t from, std::int64_t to) const {
    const auto join_within = CLUSTERCL_PICK(join_within<T>);
    const auto join_around = CLUSTERCL_PICK(join_around<T>);
    const auto join_beyond = CLUSTERCL_PICK(join_beyond<T>);
    const Join join = kind();
    const bool fetch = count * kDense < m_;
    std::vector<std::int64_t> start;  // of the pairs with i < k < j: row i runs through the block
    std::vector<std::int32_t> other, pair;
    std::int64_t above = 0;  // how many have i < k
    for (std::int64_t k = from; k < to; ++k) {
      for (; above < count && pairs.i[above] < k; ++above) {
        if (pairs.j[above] <= k) continue;
        start.push_back(condensed_offset(pairs.i[above], m_));
        other.push_back(pairs.j[above]);
        pair.push_back(static_cast<std::int32_t>(above));
      }
      if (staying_[k] == 0) {
        if (weights_[k] == 0) continue;
        const std::size_t at = std::find(other.begin(), other.end(), k) - other.begin();
        if (at == other.size()) continue;
        start[at] = start.back(), other[at] = other.back(), pair[at] = pair.back();
        start.pop_back(), other.pop_back(), pair.pop_back();
        continue;
      }
      join_around(join, entries_, row(k), k, staying_[k], pairs, {start.data(), other.data(), pair.data()},
                  static_cast<std::int64_t>(start.size()), fetch);
      join_within(join, row(k), k, staying_[k], pairs, above, count, fetch);
    }
    for (std::int64_t p = 0; p < count && pairs.i[p] < to; ++p)
      if (const std::int64_t j = pairs.j[p]; j < to - 1)
        join_beyond(join, row(pairs.i[p]), row(j), std::max(from, j + 1), to, staying_.data(), pairs, p);
  }

  // The union of pair `first` and those of all later pairs.
  void join_unions(const Joining& pairs, std::int64_t count, std::int64_t first) const {
    const std::int64_t i = pairs.i[first], j = pairs.j[first];
    const double share = pairs.share[first];
    for (std::int64_t second = first + 1; second < count; ++second) {
      if (second + kAhead < count) {
        __builtin_prefetch(&entry(j, pairs.i[second + kAhead]));
        __builtin_prefetch(&entry(j, pairs.j[second + kAhead]));
      }
      T& out = entry(i, pairs.i[second]);
      const double x = joined(joined(unpack(out), unpack(entry(j, pairs.i[second])), share),
                              joined(unpack(entry(i, pairs.j[second])), unpack(entry(j, pairs.j[second])), share),
                              pairs.share[second]);
      pack(x, out);
      if (x <= pairs.limit[first] * pairs.weight[second]) note(pairs, first, out, pairs.weight[second], pairs.i[second]);
      if (x <= pairs.limit[second] * pairs.weight[first]) note(pairs, second, out, pairs.weight[first], i);
    }
  }

  // Order is kept, so every entry moves towards the front, past none that is still wanted.
  bool close_up(const std::vector<std::int64_t>& active, const Monitor& monitor, std::int64_t merges) {
    const std::int64_t m = static_cast<std::int64_t>(active.size());
    T* to = entries_;
    for (std::int64_t p = 0; p < m; ++p) {
      if (!monitor(merges)) return false;
      const T* from = row(place_[active[p]]);
      for (std::int64_t q = p + 1; q < m; ++q) *to++ = from[place_[active[q]]];
    }
    for (std::int64_t p = 0; p < m; ++p) {
      staying_[p] = weights_[p] = weights_[place_[active[p]]];
      sizes_[p] = sizes_[place_[active[p]]];
      id_[p] = active[p];
    }
    for (std::int64_t p = 0; p < m; ++p) place_[active[p]] = p;
    m_ = m;
    return true;
  }

  // The last of a full list is only how far everything else is at least.
  void tell(const Listed& list, Nearest& nearest, Candidates& candidates) const {
    candidates.count = 0;
    candidates.beyond = list.distance[kCandidates - 1];
    for (int k = 0; k < kCandidates && list.distance[k] < candidates.beyond; ++k) {
      candidates.id[k] = static_cast<std::int32_t>(id_[list.place[k]]);
      candidates.distance[k] = list.distance[k];
      ++candidates.count;
    }
    nearest = Nearest{list.distance[0], list.distance[1], list.place[0] < 0 ? -1 : id_[list.place[0]]};
    if (!(nearest.distance < candidates.beyond * (1.0 - kSlack))) candidates.count = 0;
  }

  std::int64_t m_;  // clusters in the matrix, dead ones among them
  const Linkage method_;
  const double unit_;
  const Parallel& parallel_;
  T* const entries_;
  std::vector<double> weights_;        // by place: 0 for a dead cluster, its size where entries are sums, otherwise 1
  std::vector<double> sizes_;          // by place, in rows
  std::vector<double> staying_;        // by place: the weight, 0 for those that merge just now as well
  std::vector<std::int64_t> id_, place_;  // of a place; of an id
  CondensedScan<T> scan_;
  std::vector<Listed> lists_;  // of the unions of a round, by thread
  std::vector<T> scratch_;  // of join_few
};

}  // namespace

template <class T>
bool merge_condensed(const double* rows, const std::vector<double>& sizes, std::int64_t padded, Linkage method, Metric metric,
                     const Parallel& parallel, const Monitor& monitor, std::vector<Merge>& merges) {
  const std::int64_t n = static_cast<std::int64_t>(sizes.size());
  double unit = 1.0;
  if (std::is_same_v<T, Compact>) {  // that no distance times it is beyond 1/2
    double largest = 0.0;
    for (std::int64_t k = 0; k < n * padded; ++k) largest = std::max(largest, std::fabs(rows[k]));
    unit = compact_unit(largest, padded, metric);
  }
  const Buffer<T> entries = huge_buffer<T>(n * (n - 1) / 2);
  if (!fill_condensed(rows, n, padded, metric, unit, parallel, monitor, entries.get())) return false;
  Condensed<T> space(entries.get(), sizes, unit, method, parallel);
  return space.add_up(monitor, static_cast<std::int64_t>(merges.size())) && merge_by_rounds(space, n, parallel, monitor, merges);
}

template <class T>
bool merge_distances(const double* condensed, std::int64_t n, int exponent, Linkage method, const Parallel& parallel,
                     const Monitor& monitor, std::vector<Merge>& merges) {
  const std::int64_t count = n * (n - 1) / 2;
  const Buffer<T> entries = huge_buffer<T>(count);
  for (std::int64_t k = 0; k < count; ++k)
    pack(exponent == 0 ? condensed[k] : std::ldexp(condensed[k], -exponent), entries[k]);
  Condensed<T> space(entries.get(), std::vector<double>(n, 1.0), 1.0, method, parallel);
  return merge_by_rounds(space, n, parallel, monitor, merges);
}

template bool merge_condensed<double>(const double*, const std::vector<double>&, std::int64_t, Linkage, Metric, const Parallel&,
                                      const Monitor&, std::vector<Merge>&);
template bool merge_distances<double>(const double*, std::int64_t, int, Linkage, const Parallel&, const Monitor&,
                                      std::vector<Merge>&);
template bool merge_condensed<Compact>(const double*, const std::vector<double>&, std::int64_t, Linkage, Metric, const Parallel&,
                                      const Monitor&, std::vector<Merge>&);
template bool merge_distances<Compact>(const double*, std::int64_t, int, Linkage, const Parallel&, const Monitor&,
                                      std::vector<Merge>&);

}  // namespace clustercl
