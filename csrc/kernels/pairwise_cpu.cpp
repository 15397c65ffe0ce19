// The arithmetic of pairwise.h, compiled once per instruction set.
#include "pairwise.h"

#include "distance_tile.h"

namespace clustercl::CLUSTERCL_ISA {

namespace {

template <Metric metric>
inline Double8 finish(Double8 square) {
  if (metric == Metric::euclidean) return square_root(square);
  return metric == Metric::sqeuclidean ? square : Double8::all(0.5) * square;
}

// In cache-sized blocks of columns.
template <Metric metric>
void full(const double* x, std::int64_t begin, std::int64_t end, const double* y, std::int64_t m, std::int64_t padded,
          double* out) {
  // 32 KiB of columns; a multiple of the tile.
  const std::int64_t fit = 4096 / padded / kTileColumns * kTileColumns;
  const std::int64_t block = fit < kTileColumns ? kTileColumns : fit;
  for (std::int64_t from = 0; from < m; from += block) {
    const std::int64_t to = from + block < m ? from + block : m;
    for (std::int64_t i = begin; i < end; i += kTileRows) {
      const int rows = static_cast<int>(end - i < kTileRows ? end - i : kTileRows);
      const double* a[kTileRows];
      for (int r = 0; r < rows; ++r) a[r] = x + (i + r) * padded;
      for (std::int64_t j = from; j < to; j += kTileColumns) {
        const int columns = static_cast<int>(to - j < kTileColumns ? to - j : kTileColumns);
        const double* b[kTileColumns];
        for (int c = 0; c < columns; ++c) b[c] = y + (j + c) * padded;
        distances(a, rows, b, columns, padded, finish<metric>, [&](int r, const double* found) {
          for (int c = 0; c < columns; ++c) out[(i + r - begin) * m + j + c] = found[c];
        });
      }
    }
  }
}

}  // namespace

std::int64_t normalize_rows(double* rows, std::int64_t n, std::int64_t padded) {
  for (std::int64_t i = 0; i < n; ++i) {
    double* row = rows + i * padded;
    double largest = 0.0;
    for (std::int64_t f = 0; f < padded; ++f) {
      const double size = __builtin_fabs(row[f]);
      if (size > largest) largest = size;
    }
    if (largest == 0.0) return i;
    // A power of two changes no digit and keeps the squares within range.
    int exponent;
    __builtin_frexp(largest, &exponent);
    Double8 square = Double8::zero();
    for (std::int64_t f = 0; f < padded; f += 8) {
      for (int lane = 0; lane < 8; ++lane) row[f + lane] = __builtin_ldexp(row[f + lane], -exponent);
      const Double8 x = Double8::load(row + f);
      square = fma(x, x, square);
    }
    const Double8 norm = Double8::all(__builtin_sqrt(total(square)));
    for (std::int64_t f = 0; f < padded; f += 8) (Double8::load(row + f) / norm).store(row + f);
  }
  return -1;
}

void distance_rows(const double* x, std::int64_t begin, std::int64_t end, const double* y, std::int64_t m,
                   std::int64_t padded, Metric metric, double* out) {
  if (metric == Metric::sqeuclidean) full<Metric::sqeuclidean>(x, begin, end, y, m, padded, out);
  if (metric == Metric::euclidean) full<Metric::euclidean>(x, begin, end, y, m, padded, out);
  if (metric == Metric::cosine) full<Metric::cosine>(x, begin, end, y, m, padded, out);
}

}  // namespace clustercl::CLUSTERCL_ISA
