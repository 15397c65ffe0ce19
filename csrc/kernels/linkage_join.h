// What merging does to a condensed matrix of distances: entries of the unions, and the nearest few of each union.
//
//   entry(A + B, C) = join(entry(A, C), entry(B, C)) for all pairs (A, B) that merge at once and a cluster C that stays
//
// Shapes: linkage.h's condensed matrix of m clusters by place; pairs as arrays, in any number. Stored: nothing beside, but
// for join_few two rows.
// Threads: whoever owns row C of the matrix, join_few one alone; the lists are a thread's own. Numerics: float64, and what T keeps of it.
// Determinism: an entry depends on its two alone, a list on what it was told. Source: Lance and Williams 1967.
#pragma once

#include <cstdint>
#include <type_traits>

#include "compact.h"
#include "linkage.h"

namespace clustercl {

enum class Join { sum, mean, largest, smallest };

// Arrays by pair, those of doubles with 7 elements behind the last, which are read.
struct Joining {
  const std::int32_t *i, *j;  // places, i < j; the union is at i
  const double* share;        // of j in the union's rows
  const double* weight;       // of the union
  double* limit;              // no distance times this weight beyond it is wanted
  Listed* lists;              // the nearest few of the union
};

// Pairs with i < k < j as seen from a row k: entry (i, k) is entries[from + k].
struct Around {
  const std::int64_t* from;
  const std::int32_t *j, *pair;
};

// Takes the cluster at `place` into the list of the union of a pair; in any order, so equal distances compare by place.
template <class T>
static inline void note(const Joining& pairs, std::int64_t pair, T entry, double weight, std::int64_t place) {
  const double distance = unpack(entry) / (pairs.weight[pair] * weight);
  Listed& list = pairs.lists[pair];
  constexpr int last = kCandidates - 1;
  const auto after = [&](int k) {
    return list.distance[k] > distance || (list.distance[k] == distance && list.place[k] > place);
  };
  if (!after(last)) return;
  int at = last;
  for (; at > 0 && after(at - 1); --at) {
    list.distance[at] = list.distance[at - 1];
    list.place[at] = list.place[at - 1];
  }
  list.distance[at] = distance;
  list.place[at] = static_cast<std::int32_t>(place);
  // Rounded up, for it only sorts out, by more than packing may have rounded an entry.
  constexpr bool exact = std::is_same_v<T, double>;
  pairs.limit[pair] =
      list.distance[last] * pairs.weight[pair] * (exact ? 1.0 + 1e-15 : 1.0 + 1e-7) + (exact ? 0.0 : kCompactLeast);
}

CLUSTERCL_PER_ISA(
    // The pairs [begin, end), all with k < i, in row k: own[j] is entry (k, j). fetch: the entries lie far apart.
    template <class T>
    void join_within(Join join, T* own, std::int64_t k, double weight, const Joining& pairs, std::int64_t begin,
                     std::int64_t end, bool fetch);
    template <class T>
    void join_around(Join join, T* entries, T* own, std::int64_t k, double weight, const Joining& pairs,
                     const Around& around, std::int64_t count, bool fetch);
    // One pair and the places [begin, end) beyond its j: row_i[k], row_j[k]. staying: their weights, 0 for those to leave.
    template <class T>
    void join_beyond(Join join, T* row_i, const T* row_j, std::int64_t begin, std::int64_t end, const double* staying,
                     const Joining& pairs, std::int64_t pair);
    // All m places, pair by pair, for pairs so few that no two of their entries lie near each other. scratch: 2 m elements.
    template <class T>
    void join_few(Join join, T* entries, std::int64_t m, const double* staying, const Joining& pairs, std::int64_t count,
                  T* scratch);)

}  // namespace clustercl
