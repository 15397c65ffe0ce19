// Distances: hand-computed values, every instruction set and thread count bit for bit, against long double sums.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/pairwise.h"
#include "checks.h"
#include "threads.h"

using namespace clustercl;
using test::check, test::finish, test::for_each_isa;

static std::vector<double> padded(const std::vector<double>& x, std::int64_t n, std::int64_t d) {
  std::vector<double> rows(n * padded_width(d));
  pad_rows(x.data(), n, d, d, 1, rows.data());
  return rows;
}

static std::vector<double> distances(const std::vector<double>& x, std::int64_t n, const std::vector<double>& y,
                                     std::int64_t m, std::int64_t d, Metric metric, int threads) {
  auto a = padded(x, n, d), b = padded(y, m, d);
  check(prepare_rows(a.data(), n, padded_width(d), metric) == -1, "no zero row in x");
  check(prepare_rows(b.data(), m, padded_width(d), metric) == -1, "no zero row in y");
  std::vector<double> out(n * m, -1.0);
  pairwise_distances(a.data(), n, b.data(), m, padded_width(d), metric, test::threads(threads), out.data());
  return out;
}

static void hand_computed() {
  const std::vector<double> x = {0, 3, 4, 0, 5, 0}, y = {0, 1};
  check(distances(x, 3, y, 1, 2, Metric::sqeuclidean, 1) == std::vector<double>({4, 17, 26}), "squares by hand");
  check(distances({3, 4}, 1, {0, 0}, 1, 2, Metric::euclidean, 1) == std::vector<double>({5}), "3-4-5 triangle");
  const auto cosine = distances({2, 0}, 1, {0, 7, -3, 0, 1e-200, 0, 1e200, 0}, 4, 2, Metric::cosine, 1);
  check(cosine == std::vector<double>({1, 2, 0, 0}), "right angle, opposite, same direction at any length");
  std::vector<double> zero(8, 0.0);
  check(prepare_rows(zero.data(), 1, 8, Metric::cosine) == 0, "a row of norm 0 is reported");
}

static double truth(const double* a, const double* b, std::int64_t d, Metric metric) {
  long double square = 0, dot = 0, aa = 0, bb = 0;
  for (std::int64_t f = 0; f < d; ++f) {
    const long double x = a[f], y = b[f];
    square += (x - y) * (x - y);
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  if (metric == Metric::sqeuclidean) return static_cast<double>(square);
  if (metric == Metric::euclidean) return static_cast<double>(std::sqrt(square));
  return static_cast<double>(1 - dot / std::sqrt(aa * bb));
}

static void against_truth(Metric metric) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  const std::int64_t shapes[][3] = {{1, 1, 1}, {2, 3, 7}, {5, 9, 8}, {70, 33, 20}, {67, 130, 129}, {3, 4, 600}};
  for (const auto& [n, m, d] : shapes) {
    std::vector<double> x(n * d), y(m * d);
    for (double& value : x) value = normal(random) + 0.5;
    for (double& value : y) value = normal(random) + 0.5;
    std::vector<double> reference;
    for_each_isa([&](const char*) {
      for (int threads : {1, 2, 3}) {
        const auto out = distances(x, n, y, m, d, metric, threads);
        if (reference.empty()) reference = out;
        check(std::memcmp(out.data(), reference.data(), out.size() * sizeof(double)) == 0, "same bits everywhere");
      }
    });
    // d roundings of float64 at most, relative to the sum; cosine absolute, as 1 - cos cancels in the truth too.
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < m; ++j) {
        const double wanted = truth(&x[i * d], &y[j * d], d, metric);
        const double scale = metric == Metric::cosine ? 1.0 : wanted;
        check(std::fabs(reference[i * m + j] - wanted) <= 2e-16 * static_cast<double>(d + 4) * scale, "value");
      }
    const auto square = distances(x, n, x, n, d, metric, 1);
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        check(square[i * n + j] == square[j * n + i] && square[i * n + i] == 0, "symmetric, zero diagonal");
  }
}

int main() {
  hand_computed();
  for (Metric metric : {Metric::sqeuclidean, Metric::euclidean, Metric::cosine}) against_truth(metric);
  return finish();
}
