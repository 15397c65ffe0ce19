// Ward's linkage over centroids and sizes: O(n d) memory. Scans go through the float32 screen of linkage_screen.h; its
// candidates are measured in float64, and a cluster whose nearest of them does not lie below the screen's bound is screened by
// differences and, where that does not help either, scanned in float64 throughout (linkage_cpu.cpp), as are scans of a few
// clusters, which a block of the screen would not be filled by.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "linkage_parts.h"
#include "linkage_screen.h"

namespace clustercl {

namespace {

constexpr std::int64_t kScanRows = 64;     // clusters that pass over a block of columns while it is in the cache
constexpr std::int64_t kScreenRows = 24;   // fewer cost less in float64
constexpr std::int64_t kScreenColumns = 256;

class Ward final : public Space {
 public:
  Ward(double* rows, const std::vector<double>& sizes, std::int64_t padded, const Parallel& parallel)
      : centroids_(rows), padded_(padded), parallel_(parallel), sizes_(sizes), nearest_in_(CLUSTERCL_PICK(ward_nearest)),
        distance_(CLUSTERCL_PICK(ward_distance)) {
    double largest = 0;
    const std::int64_t count = static_cast<std::int64_t>(sizes.size()) * padded;
    for (std::int64_t k = 0; k < count; ++k) largest = std::max(largest, std::fabs(rows[k]));
    unit_ = screen_unit(largest);
  }

  bool scan(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& active, std::vector<Nearest>& nearest,
            std::vector<Candidates>& candidates, const Monitor& monitor, std::int64_t merges) override {
    const std::int64_t count = static_cast<std::int64_t>(rows.size());
    if (count < kScreenRows || static_cast<std::int64_t>(active.size()) < kScreenColumns)
      return scan_exactly(rows, active, nearest, monitor, merges);
    std::vector<std::int64_t> open(count);  // which of the rows have not found their nearest
    std::iota(open.begin(), open.end(), 0);
    for (const Sums sums : {Sums::products, Sums::differences}) {
      if (static_cast<std::int64_t>(open.size()) < kScreenRows) break;
      if (sums == Sums::differences && settled_ < tried_ / 4) break;  // ties, for instance: float64 has to decide
      if (!screen(sums, rows, active, nearest, candidates, open, monitor, merges)) return false;
    }
    if (open.empty()) return true;
    std::vector<std::int64_t> again;
    for (const std::int64_t r : open) again.push_back(rows[r]);
    std::vector<Nearest> found(again.size());
    if (!scan_exactly(again, active, found, monitor, merges)) return false;
    for (std::size_t k = 0; k < open.size(); ++k) nearest[open[k]] = found[k];
    return true;
  }

  double distance(std::int64_t a, std::int64_t b) const override {
    return distance_(centroids_, sizes_.data(), padded_, a, b);
  }

  bool merge(const std::vector<Merge>& pairs, std::vector<Nearest>&, std::vector<Candidates>&, const Monitor&,
             std::int64_t) override {
    parallel_.for_each(0, static_cast<std::int64_t>(pairs.size()), 1 << 10, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) join(pairs[k].a, pairs[k].b);
    });
    return true;
  }

  // D(A + B, C) = ((a + c) D(A, C) + (b + c) D(B, C) - c D(A, B)) / (a + b + c), sizes in small letters, which grows with each
  // distance and, as D(A, B) is the smallest of the three, with c, which is at least 1.
  double beyond_union(std::int64_t a, std::int64_t b, double between, double beyond_a, double beyond_b) const override {
    if (beyond_a < between || beyond_b < between) return std::min(beyond_a, beyond_b);
    const double x = sizes_[a], y = sizes_[b];
    return ((x + 1) * beyond_a + (y + 1) * beyond_b - between) / (x + y + 1);
  }

  double height(double distance) const override { return std::sqrt(distance); }

 private:
  void join(std::int64_t a, std::int64_t b) {
    double* x = centroids_ + a * padded_;
    const double* y = centroids_ + b * padded_;
    const double size = sizes_[a] + sizes_[b];
    // Equal rows stay what they are, to the last bit: duplicates merge at height 0 however many there are.
    for (std::int64_t f = 0; f < padded_; ++f)
      if (x[f] != y[f]) x[f] = (sizes_[a] * x[f] + sizes_[b] * y[f]) / size;
    sizes_[a] = size;
  }

  // Takes from `open` those rows whose nearest the screen finds; false when stopped.
  bool screen(Sums sums, const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& active,
              std::vector<Nearest>& nearest, std::vector<Candidates>& candidates, std::vector<std::int64_t>& open,
              const Monitor& monitor, std::int64_t merges) {
    const std::int64_t count = static_cast<std::int64_t>(open.size());
    const bool little = count * static_cast<std::int64_t>(active.size()) * padded_ < kLittle;
    const Parallel parallel = little ? Parallel::alone() : parallel_;
    std::vector<std::int64_t> places(count);
    for (std::int64_t k = 0, place = 0; k < count; ++k) {
      while (active[place] != rows[open[k]]) ++place;
      places[k] = place;
    }
    const ScreenPoints from{centroids_, padded_, sizes_.data(), nullptr, unit_, sums};
    if (!screen_.scan(from, active, places, nullptr, parallel, monitor, merges)) return false;
    std::vector<char> found(count);
    const GoOn go_on(monitor, merges);
    parallel.for_each(0, count, 256, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end && (k % kAsk != 0 || go_on()); ++k) {
        const std::int64_t r = open[k];
        found[k] = measure(rows[r], active, screen_.lists()[k], nearest[r], candidates[r]);
      }
    });
    if (!go_on()) return false;
    std::int64_t left = 0;
    for (std::int64_t k = 0; k < count; ++k)
      if (!found[k]) open[left++] = open[k];
    open.resize(left);
    if (sums == Sums::differences) {
      tried_ += count;
      settled_ += count - left;
    }
    return true;
  }

  // The candidates' distances in float64. False where the nearest of them may not be the nearest of all.
  bool measure(std::int64_t row, const std::vector<std::int64_t>& active, const Screened& list, Nearest& nearest,
               Candidates& candidates) const {
    candidates.count = 0;
    candidates.beyond = kInfinity;
    if (list.place[kCandidates - 1] >= 0)
      candidates.beyond = static_cast<double>(list.lower[kCandidates - 1]) / (unit_ * unit_);
    Nearest found;
    for (int k = 0; k < kCandidates && list.place[k] >= 0; ++k) {
      const std::int64_t id = active[list.place[k]];
      const double far = distance(row, id);
      take(found, far, id);
      if (!(far < candidates.beyond)) continue;
      candidates.id[candidates.count] = static_cast<std::int32_t>(id);
      candidates.distance[candidates.count++] = far;
    }
    found.bound = std::min(found.bound, candidates.beyond);
    if (!(found.distance < candidates.beyond * (1.0 - kSlack))) {
      candidates.count = 0;
      return false;
    }
    nearest = found;
    return true;
  }

  bool scan_exactly(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& active,
                    std::vector<Nearest>& nearest, const Monitor& monitor, std::int64_t merges) {
    const std::int64_t count = static_cast<std::int64_t>(rows.size());
    const std::int64_t columns = static_cast<std::int64_t>(active.size());
    const std::int64_t slice =
        std::max(kScanRows * parallel_.threads, kWorkPerSlice / (columns * padded_) / kScanRows * kScanRows);
    for (std::int64_t from = 0; from < count; from += slice) {
      if (!monitor(merges)) return false;
      monitor.effort.distances += (std::min(count, from + slice) - from) * columns;
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

  double* centroids_;
  std::int64_t padded_;
  const Parallel& parallel_;
  double unit_;  // a power of two that brings the largest element to about 1
  std::vector<double> sizes_;
  std::int64_t tried_ = 0, settled_ = 0;  // clusters screened by differences, and those for which that was enough
  std::vector<Nearest> parts_;
  Screen screen_;
  decltype(CLUSTERCL_PICK(ward_nearest)) nearest_in_;
  decltype(CLUSTERCL_PICK(ward_distance)) distance_;
};

}  // namespace

bool merge_ward(double* rows, const std::vector<double>& sizes, std::int64_t padded, const Parallel& parallel,
                const Monitor& monitor, std::vector<Merge>& merges) {
  Ward space(rows, sizes, padded, parallel);
  return merge_by_rounds(space, static_cast<std::int64_t>(sizes.size()), parallel, monitor, merges);
}

}  // namespace clustercl
