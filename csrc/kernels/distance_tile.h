// Squared Euclidean distances of a few rows to a few other rows, kept in registers: the engine under pairwise and linkage.
//
//   tile[r][c] = sum over features f of (a[r][f] - b[c][f])^2, float64.
//
// Differences, not |a|^2 + |b|^2 - 2ab: nothing cancels, so near duplicates keep all their digits without any rescan.
// Shapes: every row holds `padded` doubles, a multiple of 8, zeros behind the last feature. Eight lanes take the features
// l, l + 8, l + 16, ... in order with one fma each, and double8.h adds the lanes in its fixed order: a distance depends on
// its two rows alone, not on the tile's place, the threads or the instruction set, and d(a, b) has the bits of d(b, a).
// Tiles: R x C accumulators must fit the registers (32 of 8 doubles with AVX-512, 16 of 4 with AVX2).
#pragma once

#include "double8.h"

namespace clustercl::CLUSTERCL_ISA {

#if defined(CLUSTERCL_ISA_avx512)
constexpr int kTileRows = 4, kTileColumns = 4;
#else
constexpr int kTileRows = 2, kTileColumns = 2;
#endif

template <int R, int C>
static inline void distance_tile(const double* const* a, const double* const* b, std::int64_t padded, double* tile) {
  Double8 sum[R * C];
  for (int k = 0; k < R * C; ++k) sum[k] = Double8::zero();
  for (std::int64_t f = 0; f < padded; f += 8) {
    Double8 x[R];
    for (int r = 0; r < R; ++r) x[r] = Double8::load(a[r] + f);
    for (int c = 0; c < C; ++c) {
      const Double8 y = Double8::load(b[c] + f);
      for (int r = 0; r < R; ++r) {
        const Double8 difference = x[r] - y;
        sum[r * C + c] = fma(difference, difference, sum[r * C + c]);
      }
    }
  }
  if constexpr (R * C % 8 == 0) {
    for (int k = 0; k < R * C; k += 8) totals(sum + k).store(tile + k);
  } else {
    for (int k = 0; k < R * C; ++k) tile[k] = total(sum[k]);
  }
}

// Hands the distances of `rows` to `columns` (both at most a tile) to epilogue(r, distances of row r), row by row;
// `finish` takes eight squares to what is wanted of them.
template <class Finish, class Epilogue>
static inline void distances(const double* const* a, int rows, const double* const* b, int columns, std::int64_t padded,
                             const Finish& finish, const Epilogue& epilogue) {
  constexpr int kTile = kTileRows * kTileColumns < 8 ? 8 : kTileRows * kTileColumns;
  double tile[kTile] = {};
  if (rows == kTileRows && columns == kTileColumns) {
    distance_tile<kTileRows, kTileColumns>(a, b, padded, tile);
  } else {
    for (int r = 0; r < rows; ++r) {
      double* out = tile + r * kTileColumns;
      if (columns == kTileColumns) {
        distance_tile<1, kTileColumns>(a + r, b, padded, out);
      } else {
        for (int c = 0; c < columns; ++c) distance_tile<1, 1>(a + r, b + c, padded, out + c);
      }
    }
  }
  for (int k = 0; k < kTile; k += 8) finish(Double8::load(tile + k)).store(tile + k);
  for (int r = 0; r < rows; ++r) epilogue(r, tile + r * kTileColumns);
}

static inline Double8 as_it_is(Double8 square) { return square; }

}  // namespace clustercl::CLUSTERCL_ISA
