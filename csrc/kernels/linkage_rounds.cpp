// Hierarchical clustering in rounds of reciprocal nearest neighbours, for every reducible linkage.
//
// Each cluster holds its nearest by (distance, id) and a bound below which no other cluster lies. Reducibility keeps the
// bound valid while other clusters merge, so a cluster looks again (a scan) only when its nearest merged away beyond it.
// In a round, two clusters that are each other's nearest, with nothing else as near, merge: no other merge can come
// between them. Where something else is as near, the order matters, and a pair waits until it is the smallest (distance,
// id, id) of all, which is the greedy rule itself. The tree is therefore the greedy one, ties included.
//
// Most data merge a fifth of the clusters per round. Every merge earns a number of scans, and while that pays for all
// clusters without a neighbour, they scan together. Otherwise (points on a line with growing gaps, a hub that is nearest to
// all) they scan one by one, lowest bound first, until the smallest distance is certain. So scans stay O(n) in number.
// Where a scan told a few candidates, a cluster that lost its nearest goes on to the next of them.
// kSlack: the bound may be off by the rounding of distances; nearer than that counts as a tie, which costs time alone.
#include <algorithm>
#include <cstdint>
#include <utility>

#include "linkage_parts.h"

namespace clustercl {

namespace {

constexpr std::int64_t kScansPerMerge = 16;
constexpr std::size_t kFresh = 8;           // with more new clusters as near as this, a tied cluster rather scans
constexpr std::size_t kPairs = 64;          // that merge in a round, at least, for threads to share what follows
constexpr int kSteps = 128;                 // as it does where none of so many lies at its bound

class Rounds {
 public:
  Rounds(Space& space, std::int64_t n, const Parallel& parallel, const Monitor& monitor, std::vector<Merge>& merges)
      : space_(space), parallel_(parallel), monitor_(monitor), merges_(merges), nearest_(n), into_(n), active_(n), earned_(n),
        candidates_(n) {
    for (std::int64_t i = 0; i < n; ++i) {
      active_[i] = i;
      forget(i, 0.0);
    }
  }

  bool run() {
    while (active_.size() > 1) {
      if (!monitor_(done()) || !look()) return false;
      ++monitor_.effort.rounds;
      choose();
      if (!join()) return false;
      repair();
    }
    return true;
  }

 private:
  std::int64_t done() const { return static_cast<std::int64_t>(merges_.size()); }
  bool known(std::int64_t i) const { return nearest_[i].id >= 0; }
  bool alone(std::int64_t i) const { return nearest_[i].distance < nearest_[i].bound * (1.0 - kSlack); }
  void forget(std::int64_t i, double bound) { nearest_[i] = Nearest{kInfinity, bound, -1}; }

  bool precedes(std::int64_t i, std::int64_t j) const {
    const Nearest &x = nearest_[i], &y = nearest_[j];
    if (x.distance != y.distance) return x.distance < y.distance;
    const auto key_x = std::minmax({i, x.id}), key_y = std::minmax({j, y.id});
    return key_x < key_y;
  }

  bool scan() {
    found_.assign(wanted_.size(), Nearest{});
    found_candidates_.assign(wanted_.size(), Candidates{});
    if (!space_.scan(wanted_, active_, found_, found_candidates_, monitor_, done())) return false;
    earned_ = std::max<std::int64_t>(0, earned_ - static_cast<std::int64_t>(wanted_.size()));
    for (std::size_t w = 0; w < wanted_.size(); ++w) {
      nearest_[wanted_[w]] = found_[w];
      candidates_[wanted_[w]] = found_candidates_[w];
    }
    return true;
  }

  // Scans until the smallest pair of all is known for certain.
  bool look() {
    wanted_.clear();
    for (const std::int64_t i : active_)
      if (!known(i)) wanted_.push_back(i);
    if (static_cast<std::int64_t>(wanted_.size()) <= earned_) return scan();
    for (;;) {
      double best = kInfinity;
      std::int64_t lowest = -1;
      for (const std::int64_t i : active_) {
        if (known(i)) {
          best = std::min(best, nearest_[i].distance);
        } else if (lowest < 0 || nearest_[i].bound < nearest_[lowest].bound) {
          lowest = i;
        }
      }
      if (lowest < 0 || nearest_[lowest].bound * (1.0 - kSlack) > best) return true;
      wanted_.assign(1, lowest);
      if (!monitor_(done()) || !scan()) return false;
    }
  }

  void choose() {
    pairs_.clear();
    std::int64_t first = -1;
    for (const std::int64_t i : active_) {
      if (!known(i)) continue;
      if (first < 0 || precedes(i, first)) first = i;
      const std::int64_t j = nearest_[i].id;
      if (i < j && known(j) && nearest_[j].id == i && alone(i) && alone(j)) pairs_.push_back({i, j, nearest_[i].distance});
    }
    const auto [a, b] = std::minmax({first, nearest_[first].id});
    for (const Merge& pair : pairs_)  // holds the smallest pair already, or (by rounding) a merge that would cross it
      if (pair.a == a || pair.a == b || pair.b == a || pair.b == b) return;
    const auto later = std::find_if(pairs_.begin(), pairs_.end(), [a = a](const Merge& pair) { return pair.a > a; });
    pairs_.insert(later, {a, b, nearest_[first].distance});
  }

  // What is known of the distances from i to all but `other`.
  double lower_bound(std::int64_t i, std::int64_t other) const {
    const Nearest& nearest = nearest_[i];
    return nearest.id == other ? nearest.bound : std::min(nearest.distance, nearest.bound);
  }

  bool join() {
    found_.assign(pairs_.size(), Nearest{});
    found_candidates_.assign(pairs_.size(), Candidates{});
    beyond_.clear();
    for (const Merge& pair : pairs_) {
      const Candidates &a = candidates_[pair.a], &b = candidates_[pair.b];
      const bool both = a.count > 0 && b.count > 0;
      beyond_.push_back(both ? space_.beyond_union(pair.a, pair.b, pair.height, a.beyond, b.beyond) : 0.0);
    }
    if (!space_.merge(pairs_, found_, found_candidates_, monitor_, done())) return false;
    for (const std::int64_t i : active_) into_[i] = i;
    fresh_.clear();
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
      const Merge& pair = pairs_[p];
      const double bound = std::min(lower_bound(pair.a, pair.b), lower_bound(pair.b, pair.a));
      merges_.push_back({pair.a, pair.b, space_.height(pair.height)});
      if (found_[p].id >= 0) nearest_[pair.a] = found_[p];
      else forget(pair.a, bound);
      into_[pair.a] = into_[pair.b] = ~pair.a;  // the complement marks what merged in this round
      earned_ += kScansPerMerge;
    }
    std::erase_if(active_, [&](std::int64_t i) { return into_[i] < 0 && ~into_[i] != i; });
    parallel_.for_each(0, static_cast<std::int64_t>(pairs_.size()), 1 << 9, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t p = begin; p < end; ++p)
        if (found_[p].id < 0 && beyond_[p] > 0) inherit(pairs_[p], beyond_[p], found_candidates_[p]);
    });
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
      const std::int64_t a = pairs_[p].a;
      candidates_[a] = found_candidates_[p];
      fresh_.push_back({(known(a) ? nearest_[a].distance : nearest_[a].bound) * (1.0 - kSlack), a});
    }
    std::sort(fresh_.begin(), fresh_.end());
    return true;
  }

  // The union of a pair may find its nearest among the candidates of the two: nothing else lies below `beyond`.
  void inherit(const Merge& pair, double beyond, Candidates& list) {
    std::pair<double, std::int64_t> found[2 * kCandidates];
    int count = 0;
    for (const std::int64_t part : {pair.a, pair.b}) {
      const Candidates& from = candidates_[part];
      for (int k = 0; k < from.count; ++k) {
        const std::int64_t id = from.id[k], cluster = into_[id] < 0 ? ~into_[id] : id;
        const auto same = [cluster](const auto& one) { return one.second == cluster; };
        if (cluster == pair.a || std::any_of(found, found + count, same)) continue;
        const double distance = space_.distance(pair.a, cluster);
        if (distance < beyond) found[count++] = {distance, cluster};
      }
    }
    if (count == 0) return;
    std::sort(found, found + count);
    list.beyond = count > kCandidates ? std::min(beyond, found[kCandidates].first) : beyond;
    list.count = 0;
    for (int k = 0; k < std::min(count, kCandidates); ++k) {
      if (!(found[k].first < list.beyond)) break;
      list.distance[k] = found[k].first;
      list.id[k] = static_cast<std::int32_t>(found[k].second);
      ++list.count;
    }
    const double second = list.count > 1 ? list.distance[1] : kInfinity;
    if (list.count > 0 && list.distance[0] < list.beyond * (1.0 - kSlack))
      nearest_[pair.a] = Nearest{list.distance[0], std::min(second, list.beyond), list.id[0]};
    else
      list.count = 0;
  }

  void repair() {
    // Where few merged there is little to do for most, and a busy machine keeps others waiting for longer than that takes.
    const std::int64_t grain = pairs_.size() < kPairs ? 1 << 15 : 1 << 14;
    parallel_.for_each(0, static_cast<std::int64_t>(active_.size()), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) repair(active_[k]);
    });
  }

  void repair(std::int64_t i) {
    Nearest& nearest = nearest_[i];
    if (nearest.id < 0 || into_[i] < 0) return;  // unknown, or told by the merge itself
    if (candidates_[i].count > 0) return repair(i, candidates_[i]);
    const bool tied = !alone(i);
    if (into_[nearest.id] < 0) {  // the nearest has merged
      const std::int64_t cluster = ~into_[nearest.id];
      const double distance = space_.distance(i, cluster);
      const bool still_first = distance < nearest.bound * (1.0 - kSlack);
      if (still_first || distance <= nearest.distance) {
        nearest.id = cluster;
        nearest.distance = distance;
        if (still_first) return;
      } else if (!tied || many_fresh(nearest.bound) || !next_as_near(i)) {
        return forget(i, std::min(nearest.bound, distance));
      }
    } else if (!tied) {
      return;
    }
    // Something is as near as the nearest: a new cluster may be, and under a smaller id.
    if (many_fresh(nearest.bound)) return forget(i, std::min(nearest.bound, nearest.distance));
    for (const auto& [least, cluster] : fresh_) {
      if (least > nearest.bound) return;
      if (cluster != nearest.id) take(nearest, space_.distance(i, cluster), cluster);
    }
  }

  bool many_fresh(double bound) const { return fresh_.size() > kFresh && !(fresh_[kFresh].first > bound); }

  // Where equal distances abound, all clusters have the same nearest, that of the smallest id, and lose it at once. What a cluster
  // that is tied knows is exact, as new clusters are looked at while it is: no other lies below its bound, and of those as near as
  // its nearest none has a smaller id. So the first at the bound is the next.
  bool next_as_near(std::int64_t i) {
    Nearest& nearest = nearest_[i];
    const bool among_equals = nearest.bound == nearest.distance;
    auto at = among_equals ? std::upper_bound(active_.begin(), active_.end(), nearest.id) : active_.begin();
    for (int steps = 0; at != active_.end() && steps < kSteps; ++at, ++steps) {
      if (*at == i || into_[*at] < 0) continue;
      const double distance = space_.distance(i, *at);
      if (distance > nearest.bound) continue;
      nearest.id = *at;
      nearest.distance = distance;
      return distance == nearest.bound;
    }
    return false;
  }

  // Clusters that merged stand for their union in the list. What is in no list lies beyond, and so does its union.
  void repair(std::int64_t i, Candidates& list) {
    bool changed = false;
    int kept = 0;
    for (int k = 0; k < list.count; ++k) {
      std::int64_t cluster = list.id[k];
      double distance = list.distance[k];
      if (into_[cluster] < 0) {
        changed = true;
        cluster = ~into_[cluster];
        if (std::find(list.id, list.id + kept, cluster) != list.id + kept) continue;
        distance = space_.distance(i, cluster);
        if (!(distance < list.beyond)) continue;
      }
      list.id[kept] = static_cast<std::int32_t>(cluster);
      list.distance[kept++] = distance;
    }
    list.count = kept;
    if (!changed) return;
    Nearest nearest;
    for (int k = 0; k < kept; ++k) take(nearest, list.distance[k], list.id[k]);
    nearest.bound = std::min(nearest.bound, list.beyond);
    nearest_[i] = nearest;
    if (nearest.distance < list.beyond * (1.0 - kSlack)) return;
    list.count = 0;
    forget(i, std::min(nearest.distance, list.beyond));
  }

  Space& space_;
  const Parallel& parallel_;
  const Monitor& monitor_;
  std::vector<Merge>& merges_;
  std::vector<Nearest> nearest_, found_;
  std::vector<std::int64_t> into_, active_, wanted_;
  std::vector<std::pair<double, std::int64_t>> fresh_;  // the new clusters after how far all others are from them at least
  std::vector<Merge> pairs_;
  std::vector<double> beyond_;  // by pair: what bounds the union's distances to those in neither's list, 0 for nothing
  std::int64_t earned_;  // scans that may be made for all at once
  std::vector<Candidates> candidates_, found_candidates_;  // by cluster
};

}  // namespace

bool merge_by_rounds(Space& space, std::int64_t n, const Parallel& parallel, const Monitor& monitor,
                     std::vector<Merge>& merges) {
  return Rounds(space, n, parallel, monitor, merges).run();
}

}  // namespace clustercl
