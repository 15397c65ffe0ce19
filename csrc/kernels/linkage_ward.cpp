// Ward's linkage over centroids and sizes: O(n d) memory, the scans of linkage_cpu.cpp shared among the threads.
#include <algorithm>
#include <cmath>

#include "linkage_parts.h"

namespace clustercl {

namespace {

constexpr std::int64_t kScanRows = 64;  // clusters that pass over a block of columns while it is in the cache

class Ward final : public Space {
 public:
  Ward(double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel)
      : centroids_(rows), padded_(padded), parallel_(parallel), sizes_(n, 1.0), nearest_in_(CLUSTERCL_PICK(ward_nearest)),
        distance_(CLUSTERCL_PICK(ward_distance)) {}

  bool scan(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& active, std::vector<Nearest>& nearest,
            const Monitor& monitor, std::int64_t merges) override {
    const std::int64_t count = static_cast<std::int64_t>(rows.size());
    const std::int64_t columns = static_cast<std::int64_t>(active.size());
    const std::int64_t slice =
        std::max(kScanRows * parallel_.threads, kWorkPerSlice / (columns * padded_) / kScanRows * kScanRows);
    for (std::int64_t from = 0; from < count; from += slice) {
      if (!monitor(merges)) return false;
      const std::int64_t to = std::min(count, from + slice), blocks = (to - from + kScanRows - 1) / kScanRows;
      // Few rows: the columns are split as well, and the parts put together in order.
      const bool small = (to - from) * columns * padded_ < (1 << 21);
      const std::int64_t parts = small ? 1 : std::max<std::int64_t>(1, parallel_.threads / blocks);
      parts_.assign(parts * (to - from), Nearest{});
      parallel_.for_each(0, blocks * parts, small ? blocks * parts : 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) {
          const std::int64_t block = task / parts, part = task % parts;
          const std::int64_t first = from + block * kScanRows, last = std::min(to, first + kScanRows);
          const std::int64_t left = columns * part / parts, right = columns * (part + 1) / parts;
          nearest_in_(centroids_, sizes_.data(), padded_, rows.data() + first, last - first, active.data() + left,
                      right - left, parts_.data() + part * (to - from) + (first - from));
        }
      });
      for (std::int64_t part = 0; part < parts; ++part)
        for (std::int64_t r = from; r < to; ++r) take(nearest[r], parts_[part * (to - from) + (r - from)]);
    }
    return true;
  }

  double distance(std::int64_t a, std::int64_t b) const override {
    return distance_(centroids_, sizes_.data(), padded_, a, b);
  }

  void merge(std::int64_t a, std::int64_t b, const std::vector<std::int64_t>&) override {
    double* x = centroids_ + a * padded_;
    const double* y = centroids_ + b * padded_;
    const double size = sizes_[a] + sizes_[b];
    // Equal rows stay what they are, to the last bit: duplicates merge at height 0 however many there are.
    for (std::int64_t f = 0; f < padded_; ++f)
      if (x[f] != y[f]) x[f] = (sizes_[a] * x[f] + sizes_[b] * y[f]) / size;
    sizes_[a] = size;
  }

  double height(double distance) const override { return std::sqrt(distance); }

 private:
  double* centroids_;
  std::int64_t padded_;
  const Parallel& parallel_;
  std::vector<double> sizes_;
  std::vector<Nearest> parts_;
  decltype(CLUSTERCL_PICK(ward_nearest)) nearest_in_;
  decltype(CLUSTERCL_PICK(ward_distance)) distance_;
};

}  // namespace

bool merge_ward(double* rows, std::int64_t n, std::int64_t padded, const Parallel& parallel, const Monitor& monitor,
                std::vector<Merge>& merges) {
  Ward space(rows, n, padded, parallel);
  return merge_by_rounds(space, n, parallel, monitor, merges);
}

}  // namespace clustercl
