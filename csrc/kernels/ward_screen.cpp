#include "ward_screen.h"

#include <limits>

namespace clustercl {

ScreenSide ScreenPack::view() const {
  return {count_, rows_.get(), panels_.get(), norm_.get(), inverse_size_.get(), place_.data()};
}

void ScreenPack::pack(const double* centroids, std::int64_t d, const double* sizes,
                      const std::vector<std::int64_t>& clusters, double unit, bool with_panels, const Parallel& parallel) {
  const std::int64_t width = padded_width<float>(d);
  count_ = static_cast<std::int64_t>(clusters.size());
  blocks_ = (count_ + kBlock - 1) / kBlock;
  if (blocks_ > room_) {
    room_ = blocks_;
    rows_.reset();  // before the new ones are there, for the peak's sake
    panels_.reset();
    rows_ = buffer<float>(room_ * kBlock * width);
    if (with_panels) panels_ = buffer<float>(room_ * kBlock * d);
    norm_ = buffer<float>(room_ * kBlock);
    inverse_size_ = buffer<float>(room_ * kBlock);
    place_.resize(room_ * kBlock);
  }
  const double kappa = static_cast<double>(2 * d + 64) * 0x1p-24;
  parallel.for_each(0, blocks_, 1, [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from * kBlock; i < to * kBlock; ++i) {
      const bool real = i < count_;
      const double* x = real ? centroids + clusters[i] * d : nullptr;
      double square = 0;
      for (std::int64_t f = 0; f < width; f += kPanel<float>) {
        float* row = rows_.get() + row_offset<float>(i, f, width);
        for (std::int64_t k = 0; k < kPanel<float>; ++k) {
          const double value = real && f + k < d ? x[f + k] * unit : 0;
          row[k] = static_cast<float>(value);
          square += value * value;
        }
        if (!with_panels) continue;
        float* panel = panels_.get() + i / kPanel<float> * kPanel<float> * d + i % kPanel<float>;
        for (std::int64_t k = 0; k < kPanel<float> && f + k < d; ++k) panel[(f + k) * kPanel<float>] = row[k];
      }
      norm_[i] = real ? static_cast<float>((1 - kappa) * square - 1e-36) : std::numeric_limits<float>::infinity();
      inverse_size_[i] = real ? static_cast<float>(1 / sizes[clusters[i]]) : 1.0f;
    }
  });
}

}  // namespace clustercl
