// What each CUDA thread computes (pairwise_lanes.h), run on the host: it must have the bits of the CPU kernel.
#include <cstdio>
#include <random>
#include <vector>

#include "kernels/pairwise_lanes.h"
#include "threads.h"

using namespace clustercl;

int main() {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  int failures = 0;
  for (const std::int64_t d : {1, 3, 8, 17, 128}) {
    const std::int64_t n = 13, m = 9, padded = padded_width(d);
    for (const Metric metric : {Metric::sqeuclidean, Metric::euclidean, Metric::cosine}) {
      std::vector<double> x(n * padded, 0.0), y(m * padded, 0.0);
      for (auto* rows : {&x, &y})
        for (std::size_t i = 0; i < rows->size(); i += padded)
          for (std::int64_t f = 0; f < d; ++f) (*rows)[i + f] = 1e3 * normal(random) + 1e4;
      auto x_lanes = x, y_lanes = y;
      prepare_rows(x.data(), n, padded, metric);
      prepare_rows(y.data(), m, padded, metric);
      std::vector<double> out(n * m);
      pairwise_distances(x.data(), n, y.data(), m, padded, metric, test::threads(2), out.data());
      if (metric == Metric::cosine) {
        for (std::int64_t i = 0; i < n; ++i) failures += !normalize_row(x_lanes.data() + i * padded, padded);
        for (std::int64_t j = 0; j < m; ++j) failures += !normalize_row(y_lanes.data() + j * padded, padded);
      }
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < m; ++j) {
          const double got = row_distance(&x_lanes[i * padded], &y_lanes[j * padded], padded, metric);
          if (got == out[i * m + j]) continue;
          ++failures;
          std::printf("d %ld metric %d (%ld, %ld): %.17g, the CPU kernel has %.17g\n", static_cast<long>(d),
                      static_cast<int>(metric), static_cast<long>(i), static_cast<long>(j), got, out[i * m + j]);
        }
    }
  }
  std::vector<double> zero(8, 0.0);
  failures += normalize_row(zero.data(), 8);
  std::printf("%d failures\n", failures);
  return failures != 0;
}
