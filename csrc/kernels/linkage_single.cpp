// Single linkage from a minimum spanning tree of the rows (linkage_single.h).
//
// Its edges, sorted, give the heights; where several edges of one length meet, they leave the order of the merges open, and the
// greedy rule (distance, smaller id, larger id) settles it: clusters joined by edges of length h grow from the one with the
// smallest id, taking the smallest one at distance h each time. What is at distance h is measured again, rows of one cluster
// against rows of the others; a pair of rows takes part at one height only, so that all of this costs no more than the tree itself.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "linkage_single.h"

namespace clustercl {

namespace {

class Single {
 public:
  Single(const double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel, const Monitor& monitor)
      : rows_(rows), n_(n), padded_(padded), parallel_(parallel), monitor_(monitor), squares_(n),
        owner_(n), waits_(n), row_squares_(CLUSTERCL_PICK(row_squares)) {}

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
  bool grow(const std::set<std::int64_t>& component, double square, double height, std::vector<Merge>& merges) {
    const std::int64_t first = *component.begin();
    std::set<std::int64_t> reached;  // not joined yet
    outside_.clear();
    if (component.size() == 2) {  // one edge: nothing to choose
      reached.insert(*component.rbegin());
    } else {
      for (const std::int64_t cluster : component) {
        waits_[cluster] = cluster != first;
        for (std::int64_t i = cluster; cluster != first && i >= 0; i = next_[i]) {
          outside_.push_back(i);
          owner_[i] = cluster;
        }
      }
    }
    for (std::int64_t head = first, tail = tail_[first];;) {  // the rows that came last, as a chain
      if (!reach(head, tail, square, reached)) return false;
      if (reached.empty()) return true;
      const std::int64_t cluster = *reached.begin();
      reached.erase(reached.begin());
      head = cluster;
      tail = tail_[cluster];
      join(first, cluster, height, merges);
    }
  }

  // Moves the clusters at the distance from `outside_` to `reached`, as seen from the rows head .. tail.
  bool reach(std::int64_t head, std::int64_t tail, double square, std::set<std::int64_t>& reached) {
    for (std::int64_t i = head; i >= 0 && !outside_.empty(); i = i == tail ? -1 : next_[i]) {
      if (!monitor_(n_ - 1)) return false;
      const std::int64_t count = static_cast<std::int64_t>(outside_.size());
      monitor_.effort.distances += count;
      parallel_.for_each(0, count, 1 + (1 << 21) / padded_, [&](std::int64_t begin, std::int64_t end) {
        row_squares_(rows_, padded_, i, outside_.data() + begin, end - begin, squares_.data() + begin);
      });
      const std::size_t before = reached.size();
      for (std::int64_t k = 0; k < count; ++k) {
        const std::int64_t cluster = owner_[outside_[k]];
        if (squares_[k] != square || !waits_[cluster]) continue;
        waits_[cluster] = 0;
        reached.insert(cluster);
      }
      if (reached.size() > before) std::erase_if(outside_, [&](std::int64_t row) { return !waits_[owner_[row]]; });
    }
    return true;
  }

  const double* rows_;
  std::int64_t n_, padded_;
  const Parallel& parallel_;
  const Monitor& monitor_;
  std::vector<double> squares_;
  std::vector<std::int64_t> root_, tail_, next_;  // union-find; the rows of a cluster as a chain from its smallest row
  // Of the component that grows: rows of the clusters not reached yet, in a line, as each row that joins meets them all; of a
  // row its cluster; of a cluster whether it is not reached yet.
  std::vector<std::int64_t> outside_, owner_;
  std::vector<char> waits_;
  decltype(CLUSTERCL_PICK(row_squares)) row_squares_;
};

}  // namespace

bool merge_spanning_tree(std::vector<Edge>& edges, const double* rows, std::int64_t n, std::int64_t padded, Metric metric,
                         const Parallel& parallel, const Monitor& monitor, std::vector<Merge>& merges) {
  return Single(rows, n, padded, parallel, monitor).merge(edges, metric, merges);
}

bool merge_single(const double* rows, std::int64_t n, std::int64_t padded, Metric metric, const Parallel& parallel,
                  const Monitor& monitor, std::vector<Merge>& merges) {
  std::vector<Edge> edges;
  edges.reserve(n - 1);
  const Spanned spanned = span_by_rounds(rows, n, padded, parallel, monitor, edges);
  if (spanned == Spanned::stopped) return false;
  if (spanned == Spanned::unfit && !span_by_rows(rows, n, padded, parallel, monitor, edges)) return false;
  return merge_spanning_tree(edges, rows, n, padded, metric, parallel, monitor, merges);
}

}  // namespace clustercl
