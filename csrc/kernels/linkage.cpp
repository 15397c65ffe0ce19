// Entry of the linkage: brings the data into range, picks the algorithm, writes the merges in SciPy's order.
#include "linkage.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <queue>
#include <tuple>
#include <vector>

#include "compact.h"
#include "linkage_duplicates.h"
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

namespace {

// Numbers of merges by height, equal heights in the order in which they came: a radix sort, 11 bits a pass.
std::vector<std::int64_t> by_height(const std::vector<Merge>& merges) {
  constexpr int kBits = 11, kPasses = (64 + kBits - 1) / kBits;
  constexpr std::uint64_t kDigits = std::uint64_t{1} << kBits;
  struct Item {
    std::uint64_t key;
    std::int64_t merge;
  };
  const std::size_t count = merges.size();
  std::vector<Item> items(count), sorted(count);
  std::vector<std::size_t> counts(kPasses * kDigits, 0);
  const auto digit = [](std::uint64_t key, int pass) { return key >> pass * kBits & (kDigits - 1); };
  for (std::size_t m = 0; m < count; ++m) {
    // The bits of a double ascend with it, but for the sign.
    const auto bits = std::bit_cast<std::uint64_t>(merges[m].height);
    items[m] = {bits ^ (bits >> 63 != 0 ? ~std::uint64_t{0} : std::uint64_t{1} << 63), static_cast<std::int64_t>(m)};
    for (int pass = 0; pass < kPasses; ++pass) ++counts[pass * kDigits + digit(items[m].key, pass)];
  }
  for (int pass = 0; pass < kPasses; ++pass) {
    std::size_t* const at = counts.data() + pass * kDigits;
    if (count > 0 && at[digit(items[0].key, pass)] == count) continue;  // one digit for all
    std::exclusive_scan(at, at + kDigits, at, std::size_t{0});
    for (const Item& item : items) sorted[at[digit(item.key, pass)]++] = item;
    std::swap(items, sorted);
  }
  std::vector<std::int64_t> out(count);
  for (std::size_t m = 0; m < count; ++m) out[m] = items[m].merge;
  return out;
}

}  // namespace

void write_merges(std::vector<Merge>& merges, std::int64_t n, int exponent, double* z) {
  const std::int64_t count = n - 1;
  std::vector<std::int64_t> last(n, -1), parent(count, -1), label(n);
  std::vector<int> waiting(count, 0);
  std::vector<double> size(n, 1.0);
  for (std::int64_t i = 0; i < n; ++i) label[i] = i;
  for (std::int64_t m = 0; m < count; ++m) {
    for (const std::int64_t part : {last[merges[m].a], last[merges[m].b]}) {
      if (part < 0) continue;
      parent[part] = m;
      ++waiting[m];
      merges[m].height = std::max(merges[m].height, merges[part].height);
    }
    last[merges[m].a] = m;
  }
  std::int64_t step = 0;
  const auto write = [&](std::int64_t m) {
    const auto [a, b, height] = merges[m];
    size[a] += size[b];
    z[4 * step] = static_cast<double>(std::min(label[a], label[b]));
    z[4 * step + 1] = static_cast<double>(std::max(label[a], label[b]));
    z[4 * step + 2] = std::ldexp(height, exponent);
    z[4 * step + 3] = size[a];
    label[a] = n + step++;
  };
  // Of equal heights whoever has its parts first, then by (a, b).
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
  std::priority_queue<Key, std::vector<Key>, std::greater<Key>> ready;
  const std::vector<std::int64_t> order = by_height(merges);
  for (std::int64_t begin = 0, end; begin < count; begin = end) {
    const double height = merges[order[begin]].height;
    for (end = begin + 1; end < count && merges[order[end]].height == height;) ++end;
    if (end == begin + 1) {
      write(order[begin]);
      if (const std::int64_t next = parent[order[begin]]; next >= 0) --waiting[next];
      continue;
    }
    const auto add = [&](std::int64_t m) { ready.emplace(merges[m].a, merges[m].b, m); };
    for (std::int64_t k = begin; k < end; ++k)
      if (waiting[order[k]] == 0) add(order[k]);
    while (!ready.empty()) {
      const std::int64_t m = std::get<2>(ready.top()), next = parent[m];
      ready.pop();
      write(m);
      if (next >= 0 && --waiting[next] == 0 && merges[next].height == height) add(next);
    }
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
  const Distinct distinct = merge_duplicates(rows, n, padded, merges);
  const std::size_t before = merges.size();
  const std::vector<double> sizes = distinct.some() ? distinct.copies : std::vector<double>(n, 1.0);
  if (method == Linkage::ward) {
    finished = merge_ward(rows, sizes, padded, parallel, monitor, merges);
  } else if (method == Linkage::single) {
    finished = merge_single(rows, n - before, padded, metric, parallel, monitor, merges);
  } else {
    const auto merge = entries == Entries::half ? merge_condensed<Compact> : merge_condensed<double>;
    finished = merge(rows, sizes, padded, method, metric, parallel, monitor, merges);
  }
  for (std::size_t m = before; distinct.some() && m < merges.size(); ++m)
    merges[m] = {distinct.row[merges[m].a], distinct.row[merges[m].b], merges[m].height};
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
