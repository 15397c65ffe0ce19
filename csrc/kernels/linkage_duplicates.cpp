// Equal rows on the CPU (linkage_duplicates.h): told apart by their hashes, and by comparison where those agree.
#include "linkage_duplicates.h"

#include <algorithm>
#include <cmath>

namespace clustercl {

namespace {

constexpr int kLanes = 8;  // padded_width is a multiple of it

// Smaller numbers, and -0, are one.
double large(double x) { return std::fabs(x) < kLarge ? 0.0 : x; }

std::uint64_t hash_of(const double* row, std::int64_t padded) {
  std::uint64_t lanes[kLanes] = {};
  for (std::int64_t f = 0; f < padded; f += kLanes)
    for (int k = 0; k < kLanes; ++k) {
      const std::uint64_t mixed = (lanes[k] ^ std::bit_cast<std::uint64_t>(large(row[f + k]))) * 0x9E3779B97F4A7C15u;
      lanes[k] = mixed ^ mixed >> 29;
    }
  std::uint64_t hash = 0;
  for (const std::uint64_t lane : lanes) hash = (std::rotl(hash, 23) ^ lane) * 0xD6E8FEB86659FD93u;
  return hash ^ hash >> 32;  // its last bits choose a slot
}

}  // namespace

Distinct merge_duplicates(double* rows, std::int64_t n, std::int64_t padded, std::vector<Merge>& merges) {
  std::vector<std::uint64_t> hashes(n);
  for (std::int64_t i = 0; i < n; ++i) hashes[i] = hash_of(rows + i * padded, padded);
  const auto first = first_equals(hashes, [&](std::int64_t i, std::int64_t j) {
    const double *const x = rows + i * padded, *const y = rows + j * padded;
    if (std::equal(x, x + padded, y)) return Alike::equal;
    const bool near = std::equal(x, x + padded, y, [](double a, double b) { return large(a) == large(b); });
    return near ? Alike::too_near : Alike::unlike;
  });
  if (first.empty()) return {};
  const Distinct distinct = distinct_of(first, merges);
  for (std::size_t k = 0; k < distinct.row.size(); ++k)
    if (const double* from = rows + distinct.row[k] * padded; from != rows + k * padded) std::copy_n(from, padded, rows + k * padded);
  return distinct;
}

}  // namespace clustercl
