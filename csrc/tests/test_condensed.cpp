// The condensed matrix: against distances from differences, every instruction set and thread count bit for bit, near and
// equal rows, and the numbers of half the memory.
#include "kernels/condensed.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "checks.h"
#include "threads.h"

using namespace clustercl;
using test::check, test::finish, test::for_each_isa;

static std::vector<double> prepared(const std::vector<double>& x, std::int64_t n, std::int64_t d, Metric metric) {
  std::vector<double> rows(n * padded_width(d));
  pad_rows(x.data(), n, d, d, 1, rows.data());
  check(prepare_rows(rows.data(), n, padded_width(d), metric) == -1, "no zero row");
  return rows;
}

template <class T>
static std::vector<T> filled(const std::vector<double>& rows, std::int64_t n, Metric metric, double unit, int threads) {
  std::vector<T> out(n * (n - 1) / 2);
  const std::int64_t padded = static_cast<std::int64_t>(rows.size()) / n;
  check(fill_condensed(rows.data(), n, padded, metric, unit, test::threads(threads), Monitor{nullptr, nullptr}, out.data()),
        "ran to its end");
  return out;
}

// x (n, d): entries against differences, to what condensed.h promises.
static void compare(const std::vector<double>& x, std::int64_t n, std::int64_t d, Metric metric) {
  const std::vector<double> rows = prepared(x, n, d, metric);
  const auto entries = filled<double>(rows, n, metric, 1.0, 1);
  std::vector<double> wanted(n * n);
  pairwise_distances(rows.data(), n, rows.data(), n, padded_width(d), metric, test::threads(1), wanted.data());
  const double unit = 0x1p-30;  // no distance here is beyond half of it
  const auto half = filled<Compact>(rows, n, metric, unit, 1);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i + 1; j < n; ++j) {
      const double right = wanted[i * n + j], got = entries[condensed_offset(i, n) + j];
      check(std::fabs(got - right) <= static_cast<double>(d + 3) * 0x1p-45 * right, "entry");
      const double packed = unpack(half[condensed_offset(i, n) + j]) / unit;
      check(std::fabs(packed - got) <= 0x1p-27 * got + kCompactLeast / unit, "entry in half the memory: 27 digits");
    }
  for_each_isa([&](const char*) {
    for (int threads : {1, 3}) {
      const auto again = filled<double>(rows, n, metric, 1.0, threads);
      check(std::memcmp(again.data(), entries.data(), again.size() * sizeof(double)) == 0, "same bits everywhere");
      const auto half_again = filled<Compact>(rows, n, metric, unit, threads);
      check(std::memcmp(half_again.data(), half.data(), half.size() * sizeof(Compact)) == 0, "same bits in half the memory");
    }
  });
}

static void random_rows() {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  const std::int64_t shapes[][2] = {{2, 1}, {3, 7}, {9, 8}, {95, 20}, {96, 17}, {97, 33}, {200, 129}, {193, 600}};
  for (const auto& [n, d] : shapes)
    for (Metric metric : {Metric::sqeuclidean, Metric::euclidean, Metric::cosine}) {
      std::vector<double> x(n * d);
      for (double& value : x) value = normal(random) + 0.5;
      compare(x, n, d, metric);
    }
}

// Most rows lie within 1e-6 of their length of others: products alone would leave nothing of such distances.
static void near_rows() {
  std::mt19937_64 random(4);
  std::normal_distribution<double> normal;
  const std::int64_t n = 150, d = 40;
  std::vector<double> x(n * d);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t f = 0; f < d; ++f)
      x[i * d + f] = i < 100 ? 1000.0 + 1e-3 * normal(random) : i < 140 ? normal(random) : x[(i - 140) * d + f];
  for (Metric metric : {Metric::sqeuclidean, Metric::euclidean, Metric::cosine}) compare(x, n, d, metric);
  const auto entries = filled<double>(prepared(x, n, d, Metric::euclidean), n, Metric::euclidean, 1.0, 1);
  for (std::int64_t i = 0; i < 10; ++i) check(entries[condensed_offset(i, n) + 140 + i] == 0, "equal rows are at 0");
}

static void integers_are_exact() {
  std::mt19937_64 random(5);
  const std::int64_t n = 120, d = 50;
  std::vector<double> x(n * d);
  for (double& value : x) value = static_cast<double>(random() % 20001) - 10000;
  const auto entries = filled<double>(prepared(x, n, d, Metric::sqeuclidean), n, Metric::sqeuclidean, 1.0, 2);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = i + 1; j < n; ++j) {
      std::int64_t square = 0;
      for (std::int64_t f = 0; f < d; ++f) {
        const auto difference = static_cast<std::int64_t>(x[i * d + f] - x[j * d + f]);
        square += difference * difference;
      }
      check(entries[condensed_offset(i, n) + j] == static_cast<double>(square), "exact");
    }
}

static void stops() {
  std::int64_t calls = 0;
  const Monitor monitor{[](void* context, const Effort&) { return ++*static_cast<std::int64_t*>(context) < 2; }, &calls};
  std::vector<double> rows(400 * 8, 1.0), out(400 * 399 / 2);
  check(!fill_condensed(rows.data(), 400, 8, Metric::euclidean, 1.0, Parallel::alone(), monitor, out.data()), "stopped");
  check(calls == 2, "and did not ask again");
}

static void compact_numbers() {
  const auto there_and_back = [](double x) {
    Compact entry;
    pack(x, entry);
    return unpack(entry);
  };
  for (double x : {0.0, 0.5, 0x1p-30, 3 * 0x1p-12, 99999999 * 0x1p-60, 0x1.0000004p-64}) check(there_and_back(x) == x, "exact");
  double last = -1;
  for (double x = 0x1.1p-64; x <= 0.5; x *= 1.000173) {
    const double packed = there_and_back(x);
    check(std::fabs(packed - x) <= 0x1p-27 * x && packed >= last, "27 digits, in order");
    last = packed;
  }
}

int main() {
  random_rows();
  near_rows();
  integers_are_exact();
  stops();
  compact_numbers();
  return finish();
}
