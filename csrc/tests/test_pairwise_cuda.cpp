// The CUDA kernels of pairwise_cuda.h, on the host executor or a GPU: they must have the bits of the CPU kernel.
#include <cstdio>
#include <random>
#include <vector>

#include "device.h"
#include "kernels/pairwise_cuda.h"
#include "threads.h"

using namespace clustercl;

int main() {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  int failures = 0;
  for (const std::int64_t d : {1, 3, 8, 17, 128}) {
    const std::int64_t n = 13, m = 19, padded = padded_width(d);  // two blocks of threads, the second not full
    for (const Metric metric : {Metric::sqeuclidean, Metric::euclidean, Metric::cosine}) {
      std::vector<double> x(n * padded, 0.0), y(m * padded, 0.0);
      for (auto* rows : {&x, &y})
        for (std::size_t i = 0; i < rows->size(); i += padded)
          for (std::int64_t f = 0; f < d; ++f) (*rows)[i + f] = 1e3 * normal(random) + 1e4;
      test::Device<double> x_cuda(x), y_cuda(y);
      prepare_rows(x.data(), n, padded, metric);
      prepare_rows(y.data(), m, padded, metric);
      std::vector<double> out(n * m);
      test::Device<double> device_out(out);
      pairwise_distances(x.data(), n, y.data(), m, padded, metric, test::threads(2), out.data());
      if (metric == Metric::cosine) {
        failures += normalize_rows_cuda(x_cuda.get(), n, padded, nullptr) != cudaSuccess;
        failures += normalize_rows_cuda(y_cuda.get(), m, padded, nullptr) != cudaSuccess;
      }
      failures += pairwise_distances_cuda(x_cuda.get(), n, y_cuda.get(), m, padded, metric, device_out.get(), nullptr) !=
                  cudaSuccess;
      const std::vector<double> out_cuda = device_out.back();
      for (std::int64_t k = 0; k < n * m; ++k) {
        if (out_cuda[k] == out[k]) continue;
        ++failures;
        std::printf("d %ld metric %d entry %ld: %.17g, the CPU kernel has %.17g\n", static_cast<long>(d), static_cast<int>(metric),
                    static_cast<long>(k), out_cuda[k], out[k]);
      }
    }
  }
  const std::vector<double> zeros(8, 0.0);
  test::Device<double> zero(zeros);
  failures += normalize_rows_cuda(zero.get(), 1, 8, nullptr) != cudaSuccess || zero.back() != zeros;
  failures += pairwise_distances_cuda(nullptr, 0, nullptr, 0, 8, Metric::euclidean, nullptr, nullptr) != cudaSuccess;
  std::printf("%d failures\n", failures);
  return failures != 0;
}
