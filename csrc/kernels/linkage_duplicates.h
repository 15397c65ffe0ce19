// Equal rows merge before all others, at height 0: (smallest row, second), (smallest row, third) and so on, which is the greedy
// order. In rounds they would take one round a merge, as every one of them has something else as near as its nearest.
//
// That holds where only equal rows are at distance 0: where unequal ones differ in a feature whose difference has a square that does
// not underflow. A number of at least kLarge = 2^-480 differs by at least 2^-533 from any other, so rows that differ with all smaller
// numbers taken for 0 are far enough from each other, as are probabilities with one another, however small some of them are.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "linkage_parts.h"

namespace clustercl {

constexpr double kLarge = 0x1p-480;

// too_near: they differ in smaller numbers alone.
enum class Alike : std::int32_t { unlike, equal, too_near };

// By row: the smallest row of the same hash to which it is equal, else itself. Hashes are those of rows with all smaller numbers
// taken for 0. Empty where all are themselves, or where some are too near. alike(smaller row, row).
template <class Compare>
std::vector<std::int64_t> first_equals(const std::vector<std::uint64_t>& hashes, const Compare& alike) {
  const std::uint64_t slots = std::bit_ceil(2 * hashes.size());
  std::vector<std::int64_t> table(slots, -1), first;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(hashes.size()); ++i) {
    std::uint64_t at = hashes[i] & (slots - 1);
    for (; table[at] >= 0; at = (at + 1) & (slots - 1)) {
      if (hashes[table[at]] != hashes[i]) continue;
      const Alike found = alike(table[at], i);
      if (found == Alike::too_near) return {};
      if (found == Alike::equal) break;
    }
    if (table[at] < 0) {
      table[at] = i;
      if (!first.empty()) first[i] = i;
      continue;
    }
    if (first.empty()) {
      first.resize(hashes.size());
      for (std::int64_t r = 0; r < i; ++r) first[r] = r;
    }
    first[i] = table[at];
  }
  return first;
}

// Rows that occur once, or for the first time, and how many times they occur; nothing where all differ.
struct Distinct {
  std::vector<std::int64_t> row;
  std::vector<double> copies;

  bool some() const { return !row.empty(); }
};

// `merges` has those of the rows that are not their own first.
inline Distinct distinct_of(const std::vector<std::int64_t>& first, std::vector<Merge>& merges) {
  Distinct distinct;
  std::vector<std::int64_t> place(first.size());
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(first.size()); ++i) {
    if (first[i] != i) {
      merges.push_back({first[i], i, 0.0});
      ++distinct.copies[place[first[i]]];
      continue;
    }
    place[i] = static_cast<std::int64_t>(distinct.row.size());
    distinct.row.push_back(i);
    distinct.copies.push_back(1.0);
  }
  return distinct;
}

// `rows` then begins with the distinct ones.
Distinct merge_duplicates(double* rows, std::int64_t n, std::int64_t padded, std::vector<Merge>& merges);

}  // namespace clustercl
