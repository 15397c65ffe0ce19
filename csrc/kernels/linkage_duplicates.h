// Equal rows merge before all others, at height 0: (smallest row, second), (smallest row, third) and so on, which is the greedy
// order. In rounds they would take one round a merge, as every one of them has something else as near as its nearest.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "linkage_parts.h"

namespace clustercl {

// Where all numbers but 0 are at least so large, differences are multiples of 2^-532 and their squares do not underflow, so that
// only equal rows are at distance 0: otherwise nothing may merge before the rounds.
constexpr double kSquaresHold = 0x1p-480;

// By row: the smallest row of the same hash for which equal(smallest, row), else itself. Empty where all are themselves.
template <class Equal>
std::vector<std::int64_t> first_equals(const std::vector<std::uint64_t>& hashes, const Equal& equal) {
  const std::uint64_t slots = std::bit_ceil(2 * hashes.size());
  std::vector<std::int64_t> table(slots, -1), first;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(hashes.size()); ++i) {
    std::uint64_t at = hashes[i] & (slots - 1);
    while (table[at] >= 0 && !(hashes[table[at]] == hashes[i] && equal(table[at], i))) at = (at + 1) & (slots - 1);
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

// Nothing where distances of others may be 0 too. `rows` then begins with the distinct ones.
Distinct merge_duplicates(double* rows, std::int64_t n, std::int64_t padded, std::vector<Merge>& merges);

}  // namespace clustercl
