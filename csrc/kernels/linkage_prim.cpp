// A minimum spanning tree by Prim's algorithm on distances computed as they are needed: n / 2 scans, whatever the rows are.
//
// A row that joins the tree meets all that are left in float32 first, and only where that cannot rule it out to be nearer than
// the nearest so far, in float64. Rigour: rounding rows a, b to float32 moves |a - b| by at most u (|a| + |b|), u = 2^-24, and
// the sum of d squares by a share of (d + 8) u; rows are multiplied by a power of two that brings the largest element to 1, so
// that nothing overflows, and what underflows makes the sum smaller.
// Memory: the rows, in float32 again, and six numbers per row.
#include <algorithm>
#include <cmath>
#include <limits>

#include "aligned.h"
#include "linkage_single.h"

namespace clustercl {

namespace {

constexpr std::int64_t kTogether = 32;  // rows that are measured at once, several of them in registers

// The rows in float32, and what a sum of theirs says of the exact one.
struct Rounded {
  Rounded(const double* exact, std::int64_t n, std::int64_t padded) : rows(buffer<float>(n * padded)), norm(n) {
    double largest = 0;
    for (std::int64_t k = 0; k < n * padded; ++k) largest = std::max(largest, std::fabs(exact[k]));
    int exponent = 0;
    if (largest > 0) std::frexp(largest, &exponent);
    unit = std::ldexp(1.0, -exponent);
    for (std::int64_t i = 0; i < n; ++i) {
      double square = 0;
      for (std::int64_t f = i * padded; f < (i + 1) * padded; ++f) {
        const double x = exact[f] * unit;
        rows[f] = static_cast<float>(x);
        square += x * x;
      }
      norm[i] = std::sqrt(square);
      largest_norm = std::max(largest_norm, norm[i]);
    }
    share = static_cast<double>(padded + 8) * 0x1p-24;
  }

  // A sum from this on means a square of at least `square` from row i to any other. (1.0001: for the roundings in here;
  // 1e-30: below that a sum may have lost squares that underflowed.)
  float enough(double square, std::int64_t i) const {
    if (square == 0) return 0;
    if (share > 0.5) return std::numeric_limits<float>::infinity();
    const double far = std::sqrt(square) * unit + 1.0001 * 0x1p-24 * (norm[i] + largest_norm);
    return static_cast<float>(far * far / (1 - share) * 1.0001 + 1e-30);
  }

  Buffer<float> rows;
  std::vector<double> norm;
  double unit = 1, largest_norm = 0, share = 0;
};

}  // namespace

bool span_by_rows(const double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel, const Monitor& monitor,
                  std::vector<Edge>& edges) {
  const auto row_screen = CLUSTERCL_PICK(row_screen);
  const auto row_squares = CLUSTERCL_PICK(row_squares);
  const Rounded screen(rows, n, padded);
  // Of the rows that are left, ascending: the square of the distance to the tree, from where, and the sum in float32 from
  // which on a row is no nearer.
  std::vector<std::int64_t> left(n - 1), from(n - 1, 0);
  std::vector<double> nearest(n - 1, kInfinity);
  std::vector<float> enough(n - 1, std::numeric_limits<float>::infinity()), sums(n - 1);
  for (std::int64_t i = 1; i < n; ++i) left[i - 1] = i;
  std::vector<std::int64_t> first(parallel.threads);
  for (std::int64_t last = 0; !left.empty();) {
    if (!monitor(static_cast<std::int64_t>(edges.size()))) return false;
    const std::int64_t count = static_cast<std::int64_t>(left.size());
    monitor.effort.distances += count;
    const std::int64_t parts = count * padded < (1 << 20) ? 1 : parallel.threads;
    parallel.for_each(0, parts, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t part = begin; part < end; ++part) {
        const std::int64_t start = count * part / parts, stop = count * (part + 1) / parts;
        row_screen(screen.rows.get(), padded, last, left.data() + start, stop - start, sums.data() + start);
        for (std::int64_t k = start; k < stop;) {
          std::int64_t places[kTogether], ids[kTogether], several = 0;
          double squares[kTogether];
          for (; k < stop && several < kTogether; ++k) {
            if (!(sums[k] < enough[k])) continue;
            places[several] = k;
            ids[several++] = left[k];
          }
          row_squares(rows, padded, last, ids, several, squares);
          for (std::int64_t c = 0; c < several; ++c) {
            const std::int64_t at = places[c];
            if (!(squares[c] < nearest[at])) continue;
            nearest[at] = squares[c];
            from[at] = last;
            enough[at] = screen.enough(squares[c], left[at]);
          }
        }
        std::int64_t best = start;
        for (std::int64_t k = start; k < stop; ++k)
          if (nearest[k] < nearest[best]) best = k;
        first[part] = best;
      }
    });
    std::int64_t best = first[0];
    for (std::int64_t part = 1; part < parts; ++part)
      if (std::pair(nearest[first[part]], left[first[part]]) < std::pair(nearest[best], left[best])) best = first[part];
    last = left[best];
    edges.push_back({nearest[best], from[best], last});
    left.erase(left.begin() + best);  // keeps the order, so that equal distances always go to the smaller row
    from.erase(from.begin() + best);
    nearest.erase(nearest.begin() + best);
    enough.erase(enough.begin() + best);
  }
  return true;
}

}  // namespace clustercl
