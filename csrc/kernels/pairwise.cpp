// Which rows each thread takes; the arithmetic is in pairwise_cpu.cpp, the description in pairwise.h.
#include "pairwise.h"

namespace clustercl {

std::int64_t prepare_rows(double* rows, std::int64_t n, std::int64_t padded, Metric metric) {
  return metric == Metric::cosine ? CLUSTERCL_PICK(normalize_rows)(rows, n, padded) : -1;
}

void pairwise_distances(const double* x, std::int64_t n, const double* y, std::int64_t m, std::int64_t padded,
                        Metric metric, const Parallel& parallel, double* out) {
  const auto distance_rows = CLUSTERCL_PICK(distance_rows);
  constexpr std::int64_t kRows = 64;  // enough rows to pass over a block of columns while it is in the cache
  parallel.for_each(0, (n + kRows - 1) / kRows, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      const std::int64_t begin = block * kRows, end = begin + kRows < n ? begin + kRows : n;
      distance_rows(x, begin, end, y, m, padded, metric, out + begin * m);
    }
  });
}

}  // namespace clustercl
