#include "ceiling.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace clustercl {

double fma_ceiling(const Parallel& parallel, int rounds) {
  constexpr std::int64_t kSteps = 4'000'000;  // some 20 ms
  const auto work = CLUSTERCL_PICK(multiply_add);
  std::vector<double> operations(parallel.threads);
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    const auto began = std::chrono::steady_clock::now();
    parallel.for_each(0, parallel.threads, 1, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t thread = from; thread < to; ++thread) {
        float result = 0.5f;
        operations[thread] = work(kSteps, &result);
        if (result < 0) operations[thread] = 0;
      }
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    double sum = 0;
    for (const double each : operations) sum += each;
    best = std::max(best, sum / seconds.count());
  }
  return best;
}

}  // namespace clustercl
