// Preparation and threads of the contrastive loss; the description is in contrastive.h, the arithmetic in contrastive_cpu.cpp.
#include "contrastive.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace clustercl {
namespace {

// One cache line, so that no register of a padded row straddles two.
constexpr std::align_val_t kAlignment{64};

struct Free {
  void operator()(void* p) const { ::operator delete[](p, kAlignment); }
};
template <class T>
using Buffer = std::unique_ptr<T[], Free>;

template <class T>
Buffer<T> buffer(std::int64_t size) {
  return Buffer<T>(static_cast<T*>(::operator new[](static_cast<std::size_t>(size) * sizeof(T), kAlignment)));
}

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

std::vector<std::int64_t> tally(const std::vector<std::int64_t>& ids, std::int64_t kinds) {
  std::vector<std::int64_t> out(kinds);
  for (const std::int64_t id : ids) ++out[id];
  return out;
}

// Everything the blocks read: unit rows, panels, ids, and how many positives each row has.
template <class T>
struct Prepared {
  ContrastiveRows<T> rows;
  Buffer<T> unit, panels;
  std::vector<RowId<T>> image, group;
  std::vector<std::int64_t> positives;
  std::vector<double> norm;

  Prepared(const Contrastive<T>& in, const Parallel& parallel) {
    const std::int64_t stride = row_stride<T>(in.d), padded = round_up(in.n, kBlockColumns<T>);
    rows = {};
    rows.n = in.n;
    rows.d = in.d;
    rows.stride = stride;
    rows.padded = padded;
    rows.same_class = in.same_class;
    rows.inverse_temperature = static_cast<T>(1.0 / in.temperature);
    name_rows(in, padded);
    norm.resize(in.n);
    // A block of rows may reach beyond the last block of columns.
    unit = buffer<T>((padded + kBlockRows) * stride);
    panels = buffer<T>(padded * in.d);
    parallel.for_each(0, padded / kPanel<T>, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first * kPanel<T>; i < last * kPanel<T>; ++i) {
        T* to = unit.get() + i * stride;
        std::fill_n(to, stride, T{0});
        if (i < in.n) norm[i] = unit_row(in, i, to);
        T* panel = panels.get() + i / kPanel<T> * kPanel<T> * in.d + i % kPanel<T>;
        for (std::int64_t f = 0; f < in.d; ++f) panel[f * kPanel<T>] = to[f];
      }
    });
    std::fill_n(unit.get() + padded * stride, kBlockRows * stride, T{0});
    rows.unit = unit.get();
    rows.panels = panels.get();
  }

  void name_rows(const Contrastive<T>& in, std::int64_t padded) {
    std::vector<std::int64_t> images, groups;
    std::int64_t kinds = number(in.image, in.n, images);
    const std::vector<std::int64_t> views = tally(images, kinds);
    for (std::int64_t i = 0; i < in.n; ++i)
      if (views[images[i]] < 2)
        throw std::invalid_argument("contrastive_loss: image must name each image at least twice, once per view, got " +
                                    std::to_string(in.image[i]) + " once");
    if (in.same_class == SameClass::ignore || in.pseudo_class == nullptr) {
      groups = images;
    } else {
      const std::int64_t classes = number(in.pseudo_class, in.n, groups);
      for (std::int64_t i = 0; i < in.n; ++i)
        groups[i] = in.pseudo_class[i] == in.ignore_label ? classes + images[i] : groups[i];
      kinds += classes;
    }
    const std::vector<std::int64_t> members = tally(groups, kinds);
    image.assign(padded, RowId<T>{-1});
    group.assign(padded, RowId<T>{-1});
    positives.resize(in.n);
    for (std::int64_t i = 0; i < in.n; ++i) {
      image[i] = static_cast<RowId<T>>(images[i]);
      group[i] = static_cast<RowId<T>>(groups[i]);
      positives[i] = (in.same_class == SameClass::attract ? members[groups[i]] : views[images[i]]) - 1;
    }
    rows.image = image.data();
    rows.group = group.data();
  }

  // Writes row i divided by its norm and returns the norm; a power of two first, so that no square overflows.
  static double unit_row(const Contrastive<T>& in, std::int64_t i, T* to) {
    const T* x = in.rows + i * in.row_stride;
    double largest = 0;
    for (std::int64_t f = 0; f < in.d; ++f) {
      to[f] = x[f * in.column_stride];
      const double size = std::fabs(static_cast<double>(to[f]));
      if (size > largest || std::isnan(size)) largest = size;  // NaN stays: nothing is larger
    }
    if (!in.normalize || largest == 0) return largest == 0 ? 0 : 1;
    if (!std::isfinite(largest)) {
      std::fill_n(to, in.d, static_cast<T>(NAN));
      return NAN;
    }
    int exponent;
    std::frexp(largest, &exponent);
    const double scale = std::ldexp(1.0, -std::max(exponent, -1000));
    double square = 0;
    for (std::int64_t f = 0; f < in.d; ++f) square += (to[f] * scale) * (to[f] * scale);
    const double length = std::sqrt(square);
    for (std::int64_t f = 0; f < in.d; ++f) to[f] = static_cast<T>(to[f] * scale / length);
    return length / scale;
  }
};

}  // namespace

template <class T>
void contrastive_forward(const Contrastive<T>& in, const Parallel& parallel, T* loss, T* lse) {
  const auto forward_block = CLUSTERCL_PICK(contrastive_forward_block<T>);
  const Prepared<T> prepared(in, parallel);
  const std::int64_t end = in.first + in.count;
  parallel.for_each(in.first / kBlockRows, (end + kBlockRows - 1) / kBlockRows, 1, [&](std::int64_t from, std::int64_t to) {
    T largest[kBlockRows];
    double sum[kBlockRows], positive[kBlockRows];
    for (std::int64_t row = from * kBlockRows; row < to * kBlockRows; row += kBlockRows) {
      forward_block(prepared.rows, row, largest, sum, positive);
      for (std::int64_t i = std::max(row, in.first); i < std::min(row + kBlockRows, end); ++i) {
        const double total = static_cast<double>(largest[i - row]) + std::log(sum[i - row]);
        lse[i - in.first] = static_cast<T>(total);
        loss[i - in.first] = static_cast<T>(total - positive[i - row] / static_cast<double>(prepared.positives[i]));
      }
    }
  });
}

template <class T>
void contrastive_backward(const Contrastive<T>& in, const Parallel& parallel, const T* lse, const T* grad_loss, T* grad_rows,
                          double* grad_temperature) {
  const auto backward_block = CLUSTERCL_PICK(contrastive_backward_block<T>);
  Prepared<T> prepared(in, parallel);
  const std::int64_t stride = prepared.rows.stride, padded = prepared.rows.padded, end = in.first + in.count;
  std::vector<T> all_lse(padded), grad(padded), share(padded);
  for (std::int64_t i = in.first; i < end; ++i) {
    all_lse[i] = lse[i - in.first];
    grad[i] = grad_loss[i - in.first];
    share[i] = grad[i] / static_cast<T>(prepared.positives[i]);
  }
  prepared.rows.lse = all_lse.data();
  prepared.rows.grad = grad.data();
  prepared.rows.share = share.data();

  const std::int64_t blocks = (in.n + kBlockRows - 1) / kBlockRows;
  std::vector<double> radial(blocks);  // sum of <u_i, dL/du_i> per block, added in order below
  parallel.for_each(0, blocks, 1, [&](std::int64_t from, std::int64_t to) {
    const Buffer<T> out = buffer<T>(kBlockRows * stride);
    for (std::int64_t block = from; block < to; ++block) {
      const std::int64_t row = block * kBlockRows;
      std::fill_n(out.get(), kBlockRows * stride, T{0});
      // Where neither row nor column is an anchor, every weight is 0.
      const bool anchors = row < end && row + kBlockRows > in.first;
      backward_block(prepared.rows, row, anchors ? 0 : in.first / kBlockColumns<T> * kBlockColumns<T>,
                     anchors ? padded : round_up(end, kBlockColumns<T>), out.get());
      for (std::int64_t i = row; i < std::min(row + kBlockRows, in.n); ++i) {
        const T* pull = out.get() + (i - row) * stride;
        const T* u = prepared.unit.get() + i * stride;
        T* to_row = grad_rows + i * in.d;
        double along = 0;
        for (std::int64_t f = 0; f < in.d; ++f) along += static_cast<double>(u[f]) * static_cast<double>(pull[f]);
        radial[block] += along;
        const double norm = prepared.norm[i], factor = in.normalize ? in.temperature * norm : in.temperature;
        if (!in.normalize) along = 0;
        for (std::int64_t f = 0; f < in.d; ++f) {
          const double tangent = static_cast<double>(pull[f]) - static_cast<double>(u[f]) * along;
          to_row[f] = in.normalize && norm == 0 ? T{0} : static_cast<T>(tangent / factor);
        }
      }
    }
  });
  double sum = 0;
  for (const double part : radial) sum += part;
  *grad_temperature = -sum / (2 * in.temperature * in.temperature);
}

template void contrastive_forward(const Contrastive<float>&, const Parallel&, float*, float*);
template void contrastive_forward(const Contrastive<double>&, const Parallel&, double*, double*);
template void contrastive_backward(const Contrastive<float>&, const Parallel&, const float*, const float*, float*, double*);
template void contrastive_backward(const Contrastive<double>&, const Parallel&, const double*, const double*, double*, double*);

}  // namespace clustercl
