// A minimum spanning tree by Boruvka's rounds behind the float32 screen: a scan or two by matrix products, and about as much again
// for every level of clusters within clusters, where Prim's algorithm (linkage_prim.cpp) waits for memory.
//
// In a round every part of the tree but the largest takes its shortest edge to another part. A row knows its nearest few with
// their distances, and a bound below which nothing else outside its part lies; it looks again, past its own part, when that bound
// lies below the shortest edge that its part knows of.
// Rigour: the shortest edge that is known is taken when no computed distance can be smaller: what the screen rules out lies beyond
// its bound (kSlack: for the rounding of float64), and where neither products nor differences decide, the row is measured against
// all others in float64.
// Ties: the edges of a round are taken by length, those that would close a circle are left. Such an edge may be replaced by others
// of its length: along the path of the tree between its ends, edges of this round are of its length, each picked by the part that
// it leads to, until one that is not of this round leaves such a part, and it is no shorter than what that part picked.
// Unfit are few rows, and rows that lie so near to each other, or are so alike in their distances, that the screen leaves too
// many open: a sample of rows tells that before the first scan, and their number later on.
// Memory: the rows twice in float32, up to half of them once more while they look again, and some 350 bytes per row.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "linkage_screen.h"
#include "linkage_single.h"

namespace clustercl {

namespace {

constexpr std::int64_t kLeast = 800;     // of fewer rows Prim's algorithm is as fast
constexpr std::int64_t kAlone = std::int64_t{1} << 29;  // multiply-adds of all pairs that wake no other thread
constexpr std::int64_t kSample = 64;     // rows that tell whether the screen is of use
constexpr std::int64_t kShare = 8;       // of so many rows one may be measured against all others in a round,
constexpr std::int64_t kShareOfAll = 2;  // and in all rounds: more would take longer than Prim's algorithm
constexpr std::int64_t kColumns = 1024;  // measured at once

class Boruvka {
 public:
  Boruvka(const double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel, const Monitor& monitor,
          std::vector<Edge>& edges)
      : rows_(rows), n_(n), padded_(padded), parallel_(parallel), monitor_(monitor), edges_(edges), known_(n), nearest_(n),
        part_(n), shortest_(n), middle_(padded, 0.0), row_squares_(CLUSTERCL_PICK(row_squares)) {
    for (std::int64_t i = 0; i < n; ++i) {
      part_[i] = static_cast<std::int32_t>(i);
      known_[i].beyond = 0;
      for (std::int64_t f = 0; f < padded; ++f) middle_[f] += rows[i * padded + f];
    }
    for (double& mean : middle_) mean /= static_cast<double>(n);
    double largest = 0;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t f = 0; f < padded; ++f) largest = std::max(largest, std::fabs(rows[i * padded + f] - middle_[f]));
    unit_ = screen_unit(largest);
  }

  Spanned run() {
    Spanned state = sample();
    while (state == Spanned::finished && static_cast<std::int64_t>(edges_.size()) < n_ - 1) {
      find_largest();
      state = look();
      if (state == Spanned::finished && !join()) state = Spanned::unfit;
    }
    if (state == Spanned::unfit) edges_.clear();
    return state;
  }

 private:
  // Screens some rows and forgets what it saw but for this: which sums decide for enough of them?
  Spanned sample() {
    std::vector<std::int64_t> all(n_), some;
    std::iota(all.begin(), all.end(), 0);
    for (std::int64_t k = 0; k < kSample; ++k) some.push_back(n_ * k / kSample);
    for (const Sums sums : {Sums::products, Sums::differences}) {
      if (!screen(sums, all, some, nullptr)) return Spanned::stopped;
      std::int64_t open = 0;
      for (const std::int64_t i : some)
        open += known_[i].beyond < *std::min_element(known_[i].distance, known_[i].distance + kCandidates);
      sums_ = sums;
      if (open <= kSample / kShare) return Spanned::finished;
    }
    return Spanned::unfit;
  }

  // Of order[places[r]] its nearest few among those of other groups; false when stopped.
  bool screen(Sums sums, const std::vector<std::int64_t>& order, const std::vector<std::int64_t>& places,
              const std::int32_t* groups) {
    const std::int64_t count = static_cast<std::int64_t>(places.size());
    const Parallel parallel = count * n_ * padded_ < kLittle ? Parallel::alone() : parallel_;
    const ScreenPoints from{rows_, padded_, nullptr, middle_.data(), unit_, sums};
    const std::int64_t merges = static_cast<std::int64_t>(edges_.size());
    if (!screen_.scan(from, order, places, groups, parallel, monitor_, merges)) return false;
    const GoOn go_on(monitor_, merges);
    parallel.for_each(0, count, 4096, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end && (r % kAsk != 0 || go_on()); ++r)
        measure(order[places[r]], order, screen_.lists()[r]);
    });
    return go_on();
  }

  void find_largest() {
    std::vector<std::int64_t> size(n_, 0);
    for (std::int64_t i = 0; i < n_; ++i) ++size[part_[i]];
    largest_ = static_cast<std::int32_t>(std::max_element(size.begin(), size.end()) - size.begin());
  }

  // The nearest outside the part of every row of those that look, as far as it matters to the part.
  Spanned look() {
    take_nearest();
    // Rows of one part in a line: tiles within it are left out.
    std::vector<std::int64_t> order(n_), places;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) { return part_[i] < part_[j]; });
    std::vector<std::int32_t> groups(n_);
    for (std::int64_t k = 0; k < n_; ++k) groups[k] = part_[order[k]];
    for (const Sums sums : {Sums::products, Sums::differences}) {
      if (sums < sums_) continue;
      places.clear();
      for (std::int64_t k = 0; k < n_; ++k)
        if (undecided(order[k])) places.push_back(k);
      if (places.empty()) break;
      if (!screen(sums, order, places, groups.data())) return Spanned::stopped;
      take_nearest();
    }
    sums_ = Sums::products;  // edges between parts are longer
    std::vector<std::int64_t> wanted;
    for (std::int64_t i = 0; i < n_; ++i)
      if (undecided(i)) wanted.push_back(i);
    measured_ += static_cast<std::int64_t>(wanted.size());
    if (static_cast<std::int64_t>(wanted.size()) > n_ / kShare || measured_ > n_ / kShareOfAll) return Spanned::unfit;
    if (wanted.empty()) return Spanned::finished;
    if (!measure_all(wanted)) return Spanned::stopped;
    take_nearest();
    return Spanned::finished;
  }

  // Of each row the nearest that it knows outside its part, and of each part the shortest of these.
  void take_nearest() {
    std::fill(shortest_.begin(), shortest_.end(), kInfinity);
    for (std::int64_t i = 0; i < n_; ++i) {
      nearest_[i] = {};
      if (part_[i] == largest_) continue;
      const Candidates& known = known_[i];
      for (int k = 0; k < known.count; ++k)
        if (part_[known.id[k]] != part_[i]) take(nearest_[i], known.distance[k], known.id[k]);
      shortest_[part_[i]] = std::min(shortest_[part_[i]], nearest_[i].distance);
    }
  }

  // May it have an edge that is shorter than all that its part knows of?
  bool undecided(std::int64_t i) const { return part_[i] != largest_ && known_[i].beyond < shortest_[part_[i]]; }

  // The distances of a list in float64, and what no other one lies below.
  void measure(std::int64_t row, const std::vector<std::int64_t>& order, const Screened& list) {
    Candidates& known = known_[row];
    for (known.count = 0; known.count < kCandidates && list.place[known.count] >= 0; ++known.count) {
      const std::int64_t id = order[list.place[known.count]];
      known.id[known.count] = static_cast<std::int32_t>(id);
      row_squares_(rows_, padded_, row, &id, 1, &known.distance[known.count]);
    }
    const double lower = static_cast<double>(list.lower[kCandidates - 1]) / (unit_ * unit_);
    known.beyond = known.count < kCandidates ? kInfinity : std::max(0.0, lower) * (1.0 - kSlack);
  }

  // The nearest few of each of these rows among all outside its part.
  bool measure_all(const std::vector<std::int64_t>& wanted) {
    const GoOn go_on(monitor_, static_cast<std::int64_t>(edges_.size()));
    std::atomic<std::int64_t> next{0};
    monitor_.effort.distances += static_cast<std::int64_t>(wanted.size()) * n_;
    parallel_.for_each(0, parallel_.threads, 1, [&](std::int64_t, std::int64_t) {
      std::int64_t ids[kColumns];
      double squares[kColumns];
      for (std::int64_t at; (at = next.fetch_add(1)) < static_cast<std::int64_t>(wanted.size()) && go_on();) {
        const std::int64_t row = wanted[at];
        Candidates& known = known_[row];
        known.count = 0;
        for (std::int64_t j = 0; j < n_ && go_on();) {
          std::int64_t count = 0;
          for (; j < n_ && count < kColumns; ++j)
            if (part_[j] != part_[row]) ids[count++] = j;
          row_squares_(rows_, padded_, row, ids, count, squares);
          for (std::int64_t k = 0; k < count; ++k) insert(known, squares[k], ids[k]);
        }
        known.beyond = known.count < kCandidates ? kInfinity : known.distance[kCandidates - 1];
      }
    });
    return go_on();
  }

  static void insert(Candidates& known, double square, std::int64_t id) {
    if (known.count == kCandidates && !(square < known.distance[kCandidates - 1])) return;
    const int last = known.count < kCandidates ? known.count++ : kCandidates - 1;
    insert_ascending(known.distance, known.id, last, square, static_cast<std::int32_t>(id));
  }

  // Every part but the largest takes its shortest edge; false where none has one, as of distances that are not numbers.
  bool join() {
    const std::size_t before = edges_.size();
    std::vector<std::int64_t> from(n_, -1);
    for (std::int64_t i = 0; i < n_; ++i) {
      std::int64_t& best = from[part_[i]];
      if (nearest_[i].id >= 0 && (best < 0 || nearest_[i].distance < nearest_[best].distance)) best = i;
    }
    std::vector<Edge> picked;
    for (const std::int64_t i : from)
      if (i >= 0) picked.push_back({nearest_[i].distance, i, nearest_[i].id});
    std::stable_sort(picked.begin(), picked.end(), [](const Edge& x, const Edge& y) { return x.square < y.square; });
    // part_ names a part by one of its rows, which makes it the forest of a union-find whose trees are flat.
    for (const Edge& edge : picked) {
      const std::int32_t a = root(edge.a), b = root(edge.b);
      if (a == b) continue;
      part_[std::max(a, b)] = std::min(a, b);
      edges_.push_back(edge);
    }
    for (std::int64_t i = 0; i < n_; ++i) part_[i] = root(i);
    return edges_.size() > before;
  }

  std::int32_t root(std::int64_t i) {
    while (part_[i] != i) i = part_[i] = part_[part_[i]];
    return static_cast<std::int32_t>(i);
  }

  const double* rows_;
  std::int64_t n_, padded_;
  const Parallel& parallel_;
  const Monitor& monitor_;
  std::vector<Edge>& edges_;
  std::vector<Candidates> known_;
  std::vector<Nearest> nearest_;
  std::vector<std::int32_t> part_;  // by row: its part, named by its smallest row
  std::vector<double> shortest_;    // by part
  std::vector<double> middle_;
  double unit_;
  Sums sums_ = Sums::products;  // with which screening begins
  std::int32_t largest_ = 0;
  std::int64_t measured_ = 0;  // rows against all others
  Screen screen_;
  decltype(CLUSTERCL_PICK(row_squares)) row_squares_;
};

}  // namespace

Spanned span_by_rounds(const double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel,
                       const Monitor& monitor, std::vector<Edge>& edges) {
  if (n < kLeast) return Spanned::unfit;
  const Parallel one = Parallel::alone();
  return Boruvka(rows, n, padded, n * n * padded < kAlone ? one : parallel, monitor, edges).run();
}

}  // namespace clustercl
