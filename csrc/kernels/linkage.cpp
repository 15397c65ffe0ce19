// Entry of the linkage: brings the data into range, picks the algorithm, writes the merges in SciPy's order.
#include "linkage.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <tuple>
#include <vector>

#include "compact.h"
#include "linkage_parts.h"

namespace clustercl {

namespace {

// The power of two that brings the numbers below 1/2, when their squares could leave the range of float64, or `always`.
int exponent_of(const double* x, std::int64_t count, bool always = false) {
  double largest = 0.0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(x[i]));
  if (largest == 0.0 || (!always && largest < 1e100 && largest > 1e-100)) return 0;
  int exponent;
  std::frexp(largest, &exponent);
  return exponent + 1;
}

// Moves features that lie far from 0 near to it, where centroids and products of rows lose fewer digits. The centre is the mean rounded to 12
// bits below the largest value, so that the subtraction stays exact for integers and other short numbers: ties survive.
// A feature that would not get half as large stays, as does one in which any value would lose a digit.
void centre(double* rows, std::int64_t n, std::int64_t padded) {
  std::vector<double> sum(padded, 0.0), low(rows, rows + padded), high(rows, rows + padded), middle(padded, 0.0);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t f = 0; f < padded; ++f) {
      const double x = rows[i * padded + f];
      sum[f] += x;
      low[f] = std::min(low[f], x);
      high[f] = std::max(high[f], x);
    }
  bool any = false;
  for (std::int64_t f = 0; f < padded; ++f) {
    int exponent;
    std::frexp(std::max(-low[f], high[f]), &exponent);
    const double mean = std::ldexp(std::nearbyint(std::ldexp(sum[f] / static_cast<double>(n), 12 - exponent)), exponent - 12);
    if (std::max(high[f] - mean, mean - low[f]) > 0.5 * std::max(high[f], -low[f])) continue;
    bool exact = true;
    for (std::int64_t i = 0; i < n && exact; ++i) exact = (rows[i * padded + f] - mean) + mean == rows[i * padded + f];
    if (!exact) continue;
    middle[f] = mean;
    any = true;
  }
  for (std::int64_t i = 0; i < n && any; ++i)
    for (std::int64_t f = 0; f < padded; ++f) rows[i * padded + f] -= middle[f];
}

// Merges may come in any order in which a cluster follows its parts. The greedy order is: the smallest (height, a, b)
// among the merges whose parts exist. A parent that rounding put below its part is lifted to it.
void write(std::vector<Merge>& merges, std::int64_t n, int exponent, double* z) {
  const std::int64_t count = n - 1;
  std::vector<std::int64_t> last(n, -1), parent(count, -1), label(n);
  std::vector<int> waiting(count, 0);
  std::vector<double> size(n, 1.0);
  using Key = std::tuple<double, std::int64_t, std::int64_t, std::int64_t>;
  std::priority_queue<Key, std::vector<Key>, std::greater<Key>> ready;
  for (std::int64_t i = 0; i < n; ++i) label[i] = i;
  for (std::int64_t m = 0; m < count; ++m) {
    for (const std::int64_t part : {last[merges[m].a], last[merges[m].b]}) {
      if (part < 0) continue;
      parent[part] = m;
      ++waiting[m];
      merges[m].height = std::max(merges[m].height, merges[part].height);
    }
    last[merges[m].a] = m;
    if (waiting[m] == 0) ready.emplace(merges[m].height, merges[m].a, merges[m].b, m);
  }
  for (std::int64_t step = 0; step < count; ++step) {
    const auto [height, a, b, m] = ready.top();
    ready.pop();
    size[a] += size[b];
    z[4 * step] = static_cast<double>(std::min(label[a], label[b]));
    z[4 * step + 1] = static_cast<double>(std::max(label[a], label[b]));
    z[4 * step + 2] = std::ldexp(height, exponent);
    z[4 * step + 3] = size[a];
    label[a] = n + step;
    const std::int64_t next = parent[m];
    if (next >= 0 && --waiting[next] == 0) ready.emplace(merges[next].height, merges[next].a, merges[next].b, next);
  }
}

}  // namespace

bool linkage(double* rows, std::int64_t n, std::int64_t padded, Linkage method, Metric metric, Entries entries,
             const Parallel& parallel, const Monitor& monitor, double* z) {
  const int exponent = metric == Metric::cosine ? 0 : exponent_of(rows, n * padded);
  if (exponent != 0)
    for (std::int64_t k = 0; k < n * padded; ++k) rows[k] = std::ldexp(rows[k], -exponent);
  std::vector<Merge> merges;
  merges.reserve(n - 1);
  bool finished;
  if (method != Linkage::single) centre(rows, n, padded);
  if (method == Linkage::ward) {
    finished = merge_ward(rows, n, padded, parallel, monitor, merges);
  } else if (method == Linkage::single) {
    finished = merge_single(rows, n, padded, metric, parallel, monitor, merges);
  } else {
    const auto merge = entries == Entries::half ? merge_condensed<Compact> : merge_condensed<double>;
    finished = merge(rows, n, padded, method, metric, parallel, monitor, merges);
  }
  if (!finished || !monitor(n - 1)) return false;
  write(merges, n, metric == Metric::sqeuclidean ? 2 * exponent : exponent, z);
  return true;
}

bool linkage_of_distances(const double* condensed, std::int64_t n, Linkage method, Entries entries, const Parallel& parallel,
                          const Monitor& monitor, double* z) {
  const int exponent = exponent_of(condensed, n * (n - 1) / 2, entries == Entries::half);
  std::vector<Merge> merges;
  merges.reserve(n - 1);
  const auto merge = entries == Entries::half ? merge_distances<Compact> : merge_distances<double>;
  if (!merge(condensed, n, exponent, method, parallel, monitor, merges) || !monitor(n - 1)) return false;
  write(merges, n, exponent, z);
  return true;
}

}  // namespace clustercl
