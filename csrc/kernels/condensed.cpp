#include "condensed.h"

#include <algorithm>
#include <atomic>

#include "aligned.h"
#include "blocks.h"
#include "linkage_parts.h"

namespace clustercl {

template <class T>
bool fill_condensed(const double* rows, std::int64_t n, std::int64_t padded, Metric metric, double unit,
                    const Parallel& threads, const Monitor& monitor, T* entries) {
  // Some milliseconds of work: where other programs run, waiting for a thread takes longer.
  const Parallel parallel = n * n * padded < (std::int64_t{1} << 25) ? Parallel::alone() : threads;
  const std::int64_t count = (n + kBlock - 1) / kBlock, width = padded_width<double>(padded);
  const auto blocks = buffer<double>(count * kBlock * width), panels = buffer<double>(count * kBlock * padded);
  const auto norm = buffer<double>(count * kBlock);
  parallel.for_each(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * kBlock; i < end * kBlock; ++i) {
      norm[i] = 0;
      for (std::int64_t f = 0; f < width; ++f) {
        const double x = i < n && f < padded ? rows[i * padded + f] : 0;
        blocks[row_offset<double>(i, f / kPanel<double> * kPanel<double>, width) + f % kPanel<double>] = x;
        if (f < padded) panels[i / kPanel<double> * kPanel<double> * padded + f * kPanel<double> + i % kPanel<double>] = x;
        norm[i] += x * x;
      }
    }
  });
  const CondensedRows x{n, padded, rows, blocks.get(), panels.get(), norm.get()};
  const auto condensed_tile = CLUSTERCL_PICK(condensed_tile<T>);
  const GoOn go_on(monitor, 0);
  std::atomic<std::int64_t> next{0};
  parallel.for_each(0, parallel.threads, 1, [&](std::int64_t, std::int64_t) {
    alignas(64) double scratch[kBlock * kBlock];
    for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;)
      for (std::int64_t j = i; j < count && go_on(); ++j) condensed_tile(x, metric, unit, i, j, scratch, entries);
  });
  monitor.effort.distances += n * (n - 1) / 2;
  return go_on();
}

template bool fill_condensed(const double*, std::int64_t, std::int64_t, Metric, double, const Parallel&, const Monitor&,
                             double*);
template bool fill_condensed(const double*, std::int64_t, std::int64_t, Metric, double, const Parallel&, const Monitor&,
                             Compact*);

}  // namespace clustercl
