// How the rows that tile.h multiplies lie in memory; the same on every instruction set.
//
// Rows are row-major with row_stride<T>(d) elements from one to the next, zeros behind feature d, and padded with rows of
// zeros to a multiple of block_columns<T>. Panels hold the same rows transposed, kPanel<T> at a time.
#pragma once

#include <cstdint>

namespace clustercl {

// Rows that one thread works on at a time, a multiple of every instruction set's register tile; and the columns they meet in
// one step. Their products, 48 KiB, stay in the second-level cache.
constexpr int kBlockRows = 48;
template <class T>
constexpr int kBlockColumns = 1024 / static_cast<int>(sizeof(T));
// 128 bytes: two AVX-512 registers, two cache lines.
template <class T>
constexpr int kPanel = 128 / static_cast<int>(sizeof(T));

// `static`: an inline function of a header would be one symbol shared by the instruction sets.
static inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Whole panels, and one cache line more: an even number of lines would put every row's start into the same few cache sets.
template <class T>
static inline std::int64_t row_stride(std::int64_t d) {
  return round_up(d, kPanel<T>) + kPanel<T> / 2;
}

}  // namespace clustercl
