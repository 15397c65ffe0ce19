// The tiles of condensed.h, compiled once per instruction set.
#include "condensed.h"

#include "blocks.h"
#include "double8.h"

namespace clustercl::CLUSTERCL_ISA {

namespace {

// A tile in registers: 24 of 32 with AVX-512, 12 of 16 with AVX2.
#if defined(CLUSTERCL_ISA_avx512)
constexpr int kTileRows = 12, kTileColumns = 2;
#else
constexpr int kTileRows = 6, kTileColumns = 1;
#endif
static_assert(kBlock % kTileRows == 0 && kPanel<double> % (8 * kTileColumns) == 0 && kBlock % kPanel<double> == 0);

// As dots of tile.h, but with one rounding for each multiply-add on every instruction set.
void products(const double* a, const double* panels, std::int64_t d, double* s) {
  constexpr int panel = kPanel<double>;
  for (int column = 0; column < kBlock; column += 8 * kTileColumns)
    for (int row = 0; row < kBlock; row += kTileRows) {
      Double8 sum[kTileRows][kTileColumns];
      for (int r = 0; r < kTileRows; ++r)
        for (int c = 0; c < kTileColumns; ++c) sum[r][c] = Double8::zero();
      const double* b = panels + column / panel * panel * d + column % panel;
      for (std::int64_t begin = 0; begin < d; begin += panel) {
        const double* x = a + begin * kBlock + row * panel;
        const int end = static_cast<int>(d - begin < panel ? d - begin : panel);
        for (int f = 0; f < end; ++f, b += panel) {
          Double8 y[kTileColumns];
          for (int c = 0; c < kTileColumns; ++c) y[c] = Double8::load(b + 8 * c);
#pragma GCC unroll 12
          for (int r = 0; r < kTileRows; ++r) {
            const Double8 each = Double8::all(x[r * panel + f]);
            for (int c = 0; c < kTileColumns; ++c) sum[r][c] = fma(each, y[c], sum[r][c]);
          }
        }
      }
      for (int r = 0; r < kTileRows; ++r)
        for (int c = 0; c < kTileColumns; ++c) sum[r][c].store(s + (row + r) * kBlock + column + 8 * c);
    }
}

template <Metric metric>
inline Double8 finish(Double8 square) {
  if (metric == Metric::euclidean) return square_root(square);
  return metric == Metric::sqeuclidean ? square : Double8::all(0.5) * square;
}

template <Metric metric, class T>
void tile(const CondensedRows& x, double unit, std::int64_t i, std::int64_t j, double* s, T* entries) {
  const std::int64_t width = padded_width<double>(x.padded), first = j * kBlock;
  products(x.blocks + i * kBlock * width, x.panels + j * kBlock * x.padded, x.padded, s);
  const int columns = static_cast<int>(x.n - first < kBlock ? x.n - first : kBlock);
  const Double8 minus_two = Double8::all(-2.0), share = Double8::all(kNearShare), units = Double8::all(unit);
  for (int r = 0; r < kBlock && i * kBlock + r < x.n; ++r) {
    const std::int64_t row = i * kBlock + r;
    const Double8 norm = Double8::all(x.norm[row]);
    double* own = s + r * kBlock;
    std::int64_t near[kBlock];
    int nears = 0;
    const int begin = i == j ? r + 1 : 0;
    for (int c = begin / 8 * 8; c < columns; c += 8) {
      const Double8 norms = norm + Double8::load(x.norm + first + c);
      const Double8 square = fma(Double8::load(own + c), minus_two, norms);
      square.store(own + c);
      for (unsigned mask = less(square, norms * share); mask != 0; mask &= mask - 1) {
        const int column = c + __builtin_ctz(mask);
        if (column >= begin && column < columns) near[nears++] = first + column;
      }
    }
    if (nears > 0) {
      double squares[kBlock];
      row_squares(x.rows, x.padded, row, near, nears, squares);
      for (int k = 0; k < nears; ++k) own[near[k] - first] = squares[k];
    }
    T* to = entries + condensed_offset(row, x.n) + first;
    int c = begin;
    for (; c % 8 != 0 && c < columns; ++c) {
      alignas(64) double one[8] = {own[c]};
      (units * finish<metric>(Double8::load(one))).store(one);
      pack(one[0], to[c]);
    }
    for (; c + 8 <= columns; c += 8) (units * finish<metric>(Double8::load(own + c))).store(to + c);
    for (; c < columns; ++c) {
      alignas(64) double one[8] = {own[c]};
      (units * finish<metric>(Double8::load(one))).store(one);
      pack(one[0], to[c]);
    }
  }
}

}  // namespace

template <class T>
void condensed_tile(const CondensedRows& x, Metric metric, double unit, std::int64_t i, std::int64_t j, double* scratch,
                    T* entries) {
  if (metric == Metric::sqeuclidean) tile<Metric::sqeuclidean>(x, unit, i, j, scratch, entries);
  if (metric == Metric::euclidean) tile<Metric::euclidean>(x, unit, i, j, scratch, entries);
  if (metric == Metric::cosine) tile<Metric::cosine>(x, unit, i, j, scratch, entries);
}

template void condensed_tile(const CondensedRows&, Metric, double, std::int64_t, std::int64_t, double*, double*);
template void condensed_tile(const CondensedRows&, Metric, double, std::int64_t, std::int64_t, double*, Compact*);

}  // namespace clustercl::CLUSTERCL_ISA
