// Single linkage from the minimum spanning tree, by Prim's algorithm on distances computed as they are needed.
//
// A row that joins the tree meets all that are left in float32 first, and only where that cannot rule it out to be nearer than
// the nearest so far, in float64. Rigour: rounding rows a, b to float32 moves |a - b| by at most u (|a| + |b|), u = 2^-24, and
// the sum of d squares by a share of (d + 8) u; rows are multiplied by a power of two that brings the largest element to 1, so
// that nothing overflows, and what underflows makes the sum smaller.
// Memory: the rows, in float32 again, and six numbers per row. The edges of any minimum spanning tree, sorted, give the heights; where
// several edges of one length meet, they leave the order of the merges open, and the greedy rule (distance, smaller id,
// larger id) settles it: clusters joined by edges of length h grow from the one with the smallest id, taking the smallest
// one at distance h each time. What is at distance h is measured again, rows of one cluster against rows of the others;
// a pair of rows takes part at one height only, so that all of this costs no more than the tree itself.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "aligned.h"
#include "linkage_parts.h"

namespace clustercl {

namespace {

// The rows in float32, and what a sum of theirs says of the exact one.
struct Screen {
  Screen(const double* exact, std::int64_t n, std::int64_t padded) : rows(buffer<float>(n * padded)), norm(n) {
    double largest = 0;
    for (std::int64_t k = 0; k < n * padded; ++k) largest = std::max(largest, std::fabs(exact[k]));
    int exponent = 0;
    if (largest > 0) std::frexp(largest, &exponent);
    unit = std::ldexp(1.0, -exponent);
    for (std::int64_t i = 0; i < n; ++i) {
      double square = 0;
      for (std::int64_t f = i * padded; f < (i + 1) * padded; ++f) {
        const double x = exact[f] * unit;
        rows[f] = static_cast<float>(x);
        square += x * x;
      }
      norm[i] = std::sqrt(square);
      largest_norm = std::max(largest_norm, norm[i]);
    }
    share = static_cast<double>(padded + 8) * 0x1p-24;
  }

  // A sum from this on means a square of at least `square` from row i to any other. (1.0001: for the roundings in here;
  // 1e-30: below that a sum may have lost squares that underflowed.)
  float enough(double square, std::int64_t i) const {
    if (square == 0) return 0;
    if (share > 0.5) return std::numeric_limits<float>::infinity();
    const double far = std::sqrt(square) * unit + 1.0001 * 0x1p-24 * (norm[i] + largest_norm);
    return static_cast<float>(far * far / (1 - share) * 1.0001 + 1e-30);
  }

  Buffer<float> rows;
  std::vector<double> norm;
  double unit = 1, largest_norm = 0, share = 0;
};

class Single {
 public:
  Single(const double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel, const Monitor& monitor)
      : rows_(rows), n_(n), padded_(padded), parallel_(parallel), monitor_(monitor), squares_(n),
        row_squares_(CLUSTERCL_PICK(row_squares)) {}

  bool spanning_tree(std::vector<Edge>& edges) {
    const auto row_screen = CLUSTERCL_PICK(row_screen);
    const Screen screen(rows_, n_, padded_);
    // Of the rows that are left, ascending: the square of the distance to the tree, from where, and the sum in float32 from
    // which on a row is no nearer.
    std::vector<std::int64_t> left(n_ - 1), from(n_ - 1, 0);
    std::vector<double> nearest(n_ - 1, kInfinity);
    std::vector<float> enough(n_ - 1, std::numeric_limits<float>::infinity()), sums(n_ - 1);
    for (std::int64_t i = 1; i < n_; ++i) left[i - 1] = i;
    std::vector<std::int64_t> first(parallel_.threads);
    for (std::int64_t last = 0; !left.empty();) {
      if (!monitor_(static_cast<std::int64_t>(edges.size()))) return false;
      const std::int64_t count = static_cast<std::int64_t>(left.size());
      monitor_.effort.distances += count;
      const std::int64_t parts = count * padded_ < (1 << 20) ? 1 : parallel_.threads;
      parallel_.for_each(0, parts, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t part = begin; part < end; ++part) {
          const std::int64_t start = count * part / parts, stop = count * (part + 1) / parts;
          row_screen(screen.rows.get(), padded_, last, left.data() + start, stop - start, sums.data() + start);
          std::int64_t best = start;
          for (std::int64_t k = start; k < stop; ++k) {
            if (sums[k] < enough[k]) {
              double square;
              row_squares_(rows_, padded_, last, &left[k], 1, &square);
              if (square < nearest[k]) {
                nearest[k] = square;
                from[k] = last;
                enough[k] = screen.enough(square, left[k]);
              }
            }
            if (nearest[k] < nearest[best]) best = k;
          }
          first[part] = best;
        }
      });
      std::int64_t best = first[0];
      for (std::int64_t part = 1; part < parts; ++part)
        if (std::pair(nearest[first[part]], left[first[part]]) < std::pair(nearest[best], left[best])) best = first[part];
      last = left[best];
      edges.push_back({nearest[best], from[best], last});
      left.erase(left.begin() + best);  // keeps the order, so that equal distances always go to the smaller row
      from.erase(from.begin() + best);
      nearest.erase(nearest.begin() + best);
      enough.erase(enough.begin() + best);
    }
    return true;
  }

  bool merge(std::vector<Edge>& edges, Metric metric, std::vector<Merge>& merges) {
    std::stable_sort(edges.begin(), edges.end(), [](const Edge& x, const Edge& y) { return x.square < y.square; });
    root_.resize(n_);
    tail_.resize(n_);
    next_.assign(n_, -1);
    for (std::int64_t i = 0; i < n_; ++i) root_[i] = tail_[i] = i;
    for (std::size_t begin = 0, end; begin < edges.size(); begin = end) {
      const double square = edges[begin].square;
      const double height = metric == Metric::cosine ? 0.5 * square : metric == Metric::euclidean ? std::sqrt(square) : square;
      for (end = begin; end < edges.size() && edges[end].square == square; ++end) continue;
      if (end == begin + 1) {
        const auto [a, b] = std::minmax({root(edges[begin].a), root(edges[begin].b)});
        join(a, b, height, merges);
        continue;
      }
      Graph graph;
      for (std::size_t e = begin; e < end; ++e) {
        const std::int64_t a = root(edges[e].a), b = root(edges[e].b);
        graph[a].push_back(b);
        graph[b].push_back(a);
      }
      while (!graph.empty())
        if (!grow(component(graph), square, height, merges)) return false;
    }
    return true;
  }

 private:
  using Graph = std::map<std::int64_t, std::vector<std::int64_t>>;  // clusters, named by their smallest row

  std::int64_t root(std::int64_t i) {
    while (root_[i] != i) i = root_[i] = root_[root_[i]];
    return i;
  }

  void join(std::int64_t a, std::int64_t b, double height, std::vector<Merge>& merges) {
    merges.push_back({a, b, height});
    root_[b] = a;
    next_[tail_[a]] = b;
    tail_[a] = tail_[b];
  }

  // Takes the component of the smallest cluster out of the graph; ascending.
  static std::set<std::int64_t> component(Graph& graph) {
    std::set<std::int64_t> found{graph.begin()->first};
    std::vector<std::int64_t> open(found.begin(), found.end());
    while (!open.empty()) {
      const auto at = graph.find(open.back());
      open.pop_back();
      for (const std::int64_t other : at->second)
        if (found.insert(other).second) open.push_back(other);
      graph.erase(at);
    }
    return found;
  }

  // Joins a component whose edges all have one length, in the greedy order.
  bool grow(std::set<std::int64_t> outside, double square, double height, std::vector<Merge>& merges) {
    const std::int64_t first = *outside.begin();
    std::set<std::int64_t> reached;
    outside.erase(first);
    if (outside.size() == 1) reached.swap(outside);  // one edge: nothing to choose
    for (std::int64_t head = first, tail = tail_[first];;) {  // the rows that came last, as a chain
      if (!reach(head, tail, square, outside, reached)) return false;
      if (reached.empty()) return true;
      const std::int64_t cluster = *reached.begin();
      reached.erase(reached.begin());
      head = cluster;
      tail = tail_[cluster];
      join(first, cluster, height, merges);
    }
  }

  // Moves the clusters at the distance from `outside` to `reached`, as seen from the rows head .. tail.
  bool reach(std::int64_t head, std::int64_t tail, double square, std::set<std::int64_t>& outside,
             std::set<std::int64_t>& reached) {
    if (outside.empty()) return true;
    std::vector<std::int64_t> columns, owner;
    for (const std::int64_t cluster : outside)
      for (std::int64_t i = cluster; i >= 0; i = i == tail_[cluster] ? -1 : next_[i]) {
        columns.push_back(i);
        owner.push_back(cluster);
      }
    const std::int64_t count = static_cast<std::int64_t>(columns.size());
    for (std::int64_t i = head; i >= 0; i = i == tail ? -1 : next_[i]) {
      if (!monitor_(n_ - 1)) return false;
      monitor_.effort.distances += count;
      parallel_.for_each(0, count, 1 + (1 << 21) / padded_, [&](std::int64_t begin, std::int64_t end) {
        row_squares_(rows_, padded_, i, columns.data() + begin, end - begin, squares_.data() + begin);
      });
      for (std::int64_t k = 0; k < count; ++k)
        if (squares_[k] == square && outside.erase(owner[k])) reached.insert(owner[k]);
    }
    return true;
  }

  const double* rows_;
  std::int64_t n_, padded_;
  const Parallel& parallel_;
  const Monitor& monitor_;
  std::vector<double> squares_;
  std::vector<std::int64_t> root_, tail_, next_;  // union-find; the rows of a cluster as a chain from its smallest row
  decltype(CLUSTERCL_PICK(row_squares)) row_squares_;
};

}  // namespace

bool merge_spanning_tree(std::vector<Edge>& edges, const double* rows, std::int64_t n, std::int64_t padded, Metric metric,
                         const Parallel& parallel, const Monitor& monitor, std::vector<Merge>& merges) {
  return Single(rows, n, padded, parallel, monitor).merge(edges, metric, merges);
}

bool merge_single(const double* rows, std::int64_t n, std::int64_t padded, Metric metric, const Parallel& parallel,
                  const Monitor& monitor, std::vector<Merge>& merges) {
  Single single(rows, n, padded, parallel, monitor);
  std::vector<Edge> edges;
  edges.reserve(n - 1);
  return single.spanning_tree(edges) && single.merge(edges, metric, merges);
}

}  // namespace clustercl
