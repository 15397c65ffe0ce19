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

// Moves features that lie far from 0 near to it, where centroids and products of rows lose fewer digits.
void centre(double* rows, std::int64_t n, std::int64_t padded) {
  Columns columns{std::vector<double>(padded, 0.0), std::vector<double>(rows, rows + padded), std::vector<double>(rows, rows + padded)};
  std::vector<double> part(padded);
  for (std::int64_t from = 0; from < n; from += kSumRows) {
    std::fill(part.begin(), part.end(), 0.0);
    for (std::int64_t i = from; i < std::min(n, from + kSumRows); ++i)
      for (std::int64_t f = 0; f < padded; ++f) {
        const double x = rows[i * padded + f];
        part[f] += x;
        columns.low[f] = std::min(columns.low[f], x);
        columns.high[f] = std::max(columns.high[f], x);
      }
    for (std::int64_t f = 0; f < padded; ++f) columns.sum[f] += part[f];
  }
  std::vector<double> middle = middle_of(columns, n);
  for (std::int64_t f = 0; f < padded; ++f)
    for (std::int64_t i = 0; i < n && middle[f] != 0; ++i)
      if ((rows[i * padded + f] - middle[f]) + middle[f] != rows[i * padded + f]) middle[f] = 0;
  if (std::all_of(middle.begin(), middle.end(), [](double x) { return x == 0; })) return;
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t f = 0; f < padded; ++f) rows[i * padded + f] -= middle[f];
}

double largest_of(const double* x, std::int64_t count) {
  double largest = 0.0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

}  // namespace

int exponent_of(double largest, bool always) {
  if (largest == 0.0 || (!always && largest < 1e100 && largest > 1e-100)) return 0;
  int exponent;
  std::frexp(largest, &exponent);
  return exponent + 1;
}

std::vector<double> middle_of(const Columns& columns, std::int64_t n) {
  std::vector<double> middle(columns.sum.size(), 0.0);
  for (std::size_t f = 0; f < middle.size(); ++f) {
    const double low = columns.low[f], high = columns.high[f];
    int exponent;
    std::frexp(std::max(-low, high), &exponent);
    const double mean =
        std::ldexp(std::nearbyint(std::ldexp(columns.sum[f] / static_cast<double>(n), 12 - exponent)), exponent - 12);
    if (std::max(high - mean, mean - low) <= 0.5 * std::max(high, -low)) middle[f] = mean;
  }
  return middle;
}

double compact_unit(double largest, std::int64_t padded, Metric metric) {
  const double most = metric == Metric::cosine ? 2.0 : 2.0 * largest * std::sqrt(static_cast<double>(padded));
  return most > 0 ? std::ldexp(1.0, -std::ilogb(most) - 2) : 1.0;
}

void write_merges(std::vector<Merge>& merges, std::int64_t n, int exponent, double* z) {
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

bool linkage(double* rows, std::int64_t n, std::int64_t padded, Linkage method, Metric metric, Entries entries,
             const Parallel& parallel, const Monitor& monitor, double* z) {
  const int exponent = metric == Metric::cosine ? 0 : exponent_of(largest_of(rows, n * padded));
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
  write_merges(merges, n, metric == Metric::sqeuclidean ? 2 * exponent : exponent, z);
  return true;
}

bool linkage_of_distances(const double* condensed, std::int64_t n, Linkage method, Entries entries, const Parallel& parallel,
                          const Monitor& monitor, double* z) {
  const int exponent = exponent_of(largest_of(condensed, n * (n - 1) / 2), entries == Entries::half);
  std::vector<Merge> merges;
  merges.reserve(n - 1);
  const auto merge = entries == Entries::half ? merge_distances<Compact> : merge_distances<double>;
  if (!merge(condensed, n, exponent, method, parallel, monitor, merges) || !monitor(n - 1)) return false;
  write_merges(merges, n, exponent, z);
  return true;
}

}  // namespace clustercl
