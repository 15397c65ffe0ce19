// How the rows that tile.h multiplies lie in memory; the same on every instruction set.
//
// kBlock rows make a block, the last one filled up with rows of zeros. A block is stored twice:
//   rows    [feature / kPanel][row][feature % kPanel]   for one row's features in a stream, or all rows' next few features
//   panels  [row / kPanel][feature][row % kPanel]       for the next feature of many rows at once
// so that every inner loop reads memory in order, whatever d is, and no row's start meets another's in the cache sets.
#pragma once

#include <cstdint>

namespace clustercl {

// A multiple of every instruction set's register tile (12, 6, 4 rows) and of kPanel. The products of two blocks of floats,
// 36 KiB, and the 12 KiB that they are multiplied with next stay in the first-level cache.
constexpr int kBlock = 96;
// 128 bytes: two AVX-512 registers, two cache lines.
template <class T>
constexpr int kPanel = 128 / static_cast<int>(sizeof(T));

// `static`: an inline function of a header would be one symbol shared by the instruction sets.
static inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Features of a row as stored in rows.
template <class T>
static inline std::int64_t padded_width(std::int64_t d) {
  return round_up(d, kPanel<T>);
}

// Where row i's features of the panel that starts at feature f lie in rows: kPanel<T> of them in a line.
template <class T>
static inline std::int64_t row_offset(std::int64_t i, std::int64_t f, std::int64_t width) {
  return i / kBlock * kBlock * width + f * kBlock + i % kBlock * kPanel<T>;
}

}  // namespace clustercl
