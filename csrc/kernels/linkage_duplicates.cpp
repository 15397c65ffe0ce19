// Equal rows merge before all others, at height 0: (smallest row, second), (smallest row, third) and so on, which is the greedy
// order. In rounds they would take one round a merge, as every one of them has something else as near as its nearest.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "linkage_parts.h"

namespace clustercl {

namespace {

constexpr int kLanes = 8;  // padded_width is a multiple of it

std::uint64_t hash_of(const double* row, std::int64_t padded) {
  std::uint64_t lanes[kLanes] = {};
  for (std::int64_t f = 0; f < padded; f += kLanes)
    for (int k = 0; k < kLanes; ++k) {  // -0 + 0 is 0
      const std::uint64_t mixed = (lanes[k] ^ std::bit_cast<std::uint64_t>(row[f + k] + 0.0)) * 0x9E3779B97F4A7C15u;
      lanes[k] = mixed ^ mixed >> 29;
    }
  std::uint64_t hash = 0;
  for (const std::uint64_t lane : lanes) hash = (std::rotl(hash, 23) ^ lane) * 0xD6E8FEB86659FD93u;
  return hash;
}

// By row: the smallest row that equals it. Empty where all differ.
std::vector<std::int64_t> first_equals(const double* rows, std::int64_t n, std::int64_t padded) {
  std::vector<std::pair<std::uint64_t, std::int64_t>> hashed(n);
  for (std::int64_t i = 0; i < n; ++i) hashed[i] = {hash_of(rows + i * padded, padded), i};
  std::sort(hashed.begin(), hashed.end());
  std::vector<std::int64_t> first;
  for (std::int64_t begin = 0, end; begin < n; begin = end) {
    for (end = begin + 1; end < n && hashed[end].first == hashed[begin].first;) ++end;
    for (std::int64_t k = begin; k + 1 < end; ++k) {
      const std::int64_t i = hashed[k].second;
      if (!first.empty() && first[i] != i) continue;
      for (std::int64_t other = k + 1; other < end; ++other) {
        const std::int64_t j = hashed[other].second;
        if (!std::equal(rows + i * padded, rows + (i + 1) * padded, rows + j * padded)) continue;  // of one hash alone
        if (first.empty()) {
          first.resize(n);
          for (std::int64_t r = 0; r < n; ++r) first[r] = r;
        }
        first[j] = i;
      }
    }
  }
  return first;
}

// Squares of differences of such numbers do not underflow, so that only equal rows are at distance 0.
bool squares_hold(const double* rows, std::int64_t count) {
  const double least = std::ldexp(1.0, -480);  // differences are multiples of 2^-532
  return std::all_of(rows, rows + count, [least](double x) { return x == 0.0 || std::fabs(x) >= least; });
}

}  // namespace

Distinct merge_duplicates(double* rows, std::int64_t n, std::int64_t padded, std::vector<Merge>& merges) {
  Distinct distinct;
  const std::vector<std::int64_t> first = first_equals(rows, n, padded);
  if (first.empty() || !squares_hold(rows, n * padded)) return distinct;
  std::vector<std::int64_t> place(n);
  for (std::int64_t i = 0; i < n; ++i) {
    if (first[i] != i) {
      merges.push_back({first[i], i, 0.0});
      ++distinct.copies[place[first[i]]];
      continue;
    }
    place[i] = static_cast<std::int64_t>(distinct.row.size());
    if (place[i] != i) std::copy_n(rows + i * padded, padded, rows + place[i] * padded);
    distinct.row.push_back(i);
    distinct.copies.push_back(1.0);
  }
  return distinct;
}

}  // namespace clustercl
