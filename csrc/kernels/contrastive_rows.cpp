#include "contrastive_rows.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace clustercl {
namespace {

// Numbers 0, 1, ... in the place of values; how many there are.
std::int64_t number(const std::int64_t* values, std::int64_t n, std::vector<std::int64_t>& out) {
  std::vector<std::int64_t> distinct(values, values + n);
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  out.resize(n);
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = std::lower_bound(distinct.begin(), distinct.end(), values[i]) - distinct.begin();
  return static_cast<std::int64_t>(distinct.size());
}

// Writes row i, divided by its norm, to x and returns the norm; a power of two first, so that no square overflows.
template <class T>
double unit_row(const Contrastive<T>& in, std::int64_t i, T* x) {
  const T* from = in.rows + i * in.row_stride;
  double largest = 0;
  for (std::int64_t f = 0; f < in.d; ++f) {
    x[f] = from[f * in.column_stride];
    const double size = std::fabs(static_cast<double>(x[f]));
    if (size > largest || std::isnan(size)) largest = size;  // NaN stays: nothing is larger
  }
  if (!in.normalize || largest == 0) return largest == 0 ? 0 : 1;
  if (!std::isfinite(largest)) {
    std::fill_n(x, in.d, static_cast<T>(NAN));
    return NAN;
  }
  int exponent;
  std::frexp(largest, &exponent);
  const double scale = std::ldexp(1.0, -std::max(exponent, -1000));
  double square = 0;
  for (std::int64_t f = 0; f < in.d; ++f) square += (x[f] * scale) * (x[f] * scale);
  const double length = std::sqrt(square), inverse = 1 / length;
  for (std::int64_t f = 0; f < in.d; ++f) x[f] = static_cast<T>(x[f] * scale * inverse);
  return length / scale;
}

}  // namespace

template <class T>
ContrastiveRows<T>::ContrastiveRows(const Contrastive<T>& in, const Parallel& parallel)
    : blocks((in.n + kBlock - 1) / kBlock), padded(blocks * kBlock), norm(in.n) {
  tiles.n = in.n;
  tiles.d = in.d;
  tiles.width = padded_width<T>(in.d);
  name_rows(in);

  rows_ = buffer<T>(padded * tiles.width);
  panels_ = buffer<T>(padded * in.d);
  std::vector<double> longest(blocks);
  parallel.for_each(0, blocks, 1, [&](std::int64_t from, std::int64_t to) {
    const Buffer<T> x = buffer<T>(tiles.width);
    for (std::int64_t i = from * kBlock; i < to * kBlock; ++i) {
      std::fill_n(x.get(), tiles.width, T{0});
      if (i < in.n) {
        norm[i] = unit_row(in, i, x.get());
        double square = 0;
        if (!in.normalize)
          for (std::int64_t f = 0; f < in.d; ++f) square += static_cast<double>(x[f]) * static_cast<double>(x[f]);
        longest[i / kBlock] = std::max(longest[i / kBlock], square);
      }
      for (std::int64_t f = 0; f < tiles.width; f += kPanel<T>)
        std::copy_n(x.get() + f, kPanel<T>, rows_.get() + row_offset<T>(i, f, tiles.width));
      T* panel = panels_.get() + i / kPanel<T> * kPanel<T> * in.d + i % kPanel<T>;
      for (std::int64_t f = 0; f < in.d; ++f) panel[f * kPanel<T>] = x[f];
    }
  });
  tiles.rows = rows_.get();
  tiles.panels = panels_.get();

  constexpr double kRoom = sizeof(T) == 4 ? 80 : 600, kLog2E = 1.4426950408889634;
  const double square = in.normalize ? 1 : *std::max_element(longest.begin(), longest.end());
  tiles.inverse_temperature = static_cast<T>(1 / in.temperature);
  tiles.scale = static_cast<T>(kLog2E / in.temperature);
  tiles.shift = static_cast<T>(kLog2E * std::max(0.0, square / in.temperature - kRoom));
  c = static_cast<double>(tiles.shift) / kLog2E;  // what the rounded shift stands for
}

template <class T>
void ContrastiveRows<T>::name_rows(const Contrastive<T>& in) {
  const std::int64_t n = in.n, images = number(in.image, n, image);
  begin.assign(images + 1, 0);
  for (const std::int64_t a : image) ++begin[a + 1];
  for (std::int64_t a = 0; a < images; ++a) {
    if (begin[a + 1] < 2)
      throw std::invalid_argument("contrastive_loss: image must name each image at least twice, once per view, got " +
                                  std::to_string(in.image[std::find(image.begin(), image.end(), a) - image.begin()]) +
                                  " once");
    begin[a + 1] += begin[a];
  }
  order.resize(n);
  std::vector<std::int64_t> at(begin.begin(), begin.end() - 1), group = image;
  for (std::int64_t i = 0; i < n; ++i) order[at[image[i]]++] = i;

  // A row whose class is not known is of a class with its own image alone.
  const auto name_classes = [&](const std::int64_t* labels, std::vector<std::int64_t>& out) {
    const std::int64_t classes = number(labels, n, out);
    for (std::int64_t i = 0; i < n; ++i)
      if (labels[i] == in.ignore_label) out[i] = classes + image[i];
  };
  if (in.levels == 0 && in.same_class != SameClass::ignore && in.pseudo_class != nullptr) name_classes(in.pseudo_class, group);
  tiles.levels = in.levels;
  for (int level = 0; level < in.levels; ++level) {
    std::vector<std::int64_t> classes;
    name_classes(in.pseudo_class + level * n, classes);
    level_[level].assign(padded, RowId<T>{-1});
    std::copy(classes.begin(), classes.end(), level_[level].begin());
    tiles.level[level] = level_[level].data();
    tiles.level_weight[level] = static_cast<T>(in.level_weight[level]);
  }
  tiles.attract = in.same_class == SameClass::attract;
  positives.resize(n);
  left_out_.assign(padded, RowId<T>{-1});
  for (std::int64_t i = 0; i < n; ++i) {
    left_out_[i] = static_cast<RowId<T>>(tiles.attract ? i : group[i]);
    positives[i] = begin[image[i] + 1] - begin[image[i]] - 1;
  }
  tiles.left_out = left_out_.data();
  if (!tiles.attract) return;
  std::vector<std::int64_t> members(*std::max_element(group.begin(), group.end()) + 1);
  for (const std::int64_t g : group) ++members[g];
  group_.assign(padded, RowId<T>{-1});
  for (std::int64_t i = 0; i < n; ++i) {
    group_[i] = static_cast<RowId<T>>(group[i]);
    positives[i] = members[group[i]] - 1;
  }
  tiles.group = group_.data();
}

template <class T>
T ContrastiveRows<T>::similarity(std::int64_t i, std::int64_t j) const {
  constexpr int kParts = 8;  // sums that do not wait for each other
  double part[kParts] = {};
  for (std::int64_t f = 0; f < tiles.width; f += kPanel<T>) {
    const T* a = tiles.rows + row_offset<T>(i, f, tiles.width);
    const T* b = tiles.rows + row_offset<T>(j, f, tiles.width);
    for (int k = 0; k < kPanel<T>; ++k) part[k % kParts] += static_cast<double>(a[k]) * static_cast<double>(b[k]);
  }
  double sum = 0;
  for (const double each : part) sum += each;
  return static_cast<T>(sum * static_cast<double>(tiles.inverse_temperature));
}

template struct ContrastiveRows<float>;
template struct ContrastiveRows<double>;

}  // namespace clustercl
