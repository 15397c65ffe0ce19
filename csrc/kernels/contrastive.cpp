// The two passes of the contrastive loss; the description is in contrastive.h, the arithmetic in contrastive_cpu.cpp.
#include "contrastive.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "contrastive_rows.h"
#include "pairs.h"

namespace clustercl {
namespace {

// Blocks that a task takes together. More of them read less from beyond the second-level cache; fewer keep more threads busy.
std::int64_t blocks_per_task(std::int64_t blocks, int threads) {
  return std::clamp<std::int64_t>(blocks / (8 * static_cast<std::int64_t>(threads)), 1, 4);
}

// call(i, from, to): block i against the blocks from <= j < to, for every pair i <= j of which one holds an anchor.
template <class T, class F>
void for_each_tiles(const Contrastive<T>& in, std::int64_t blocks, const Parallel& parallel, const F& call) {
  const std::int64_t group = blocks_per_task(blocks, parallel.threads);
  const std::int64_t first = in.first / kBlock, last = (in.first + in.count - 1) / kBlock;  // blocks with anchors
  for_each_pair((blocks + group - 1) / group, parallel, [&](std::int64_t a, std::int64_t b) {
    const std::int64_t end = std::min((b + 1) * group, blocks);
    for (std::int64_t i = a * group; i < std::min((a + 1) * group, blocks); ++i) {
      const bool anchors = first <= i && i <= last;
      const std::int64_t from = std::max(b * group, i);
      call(i, anchors ? from : std::max(from, first), anchors ? end : std::min(end, last + 1));
    }
  });
}

// A row's log-sum over all candidates: those of the tiles, whose exp(s - c) add up to sum, and its mates that the tiles left
// out. Largest first, so that a row with no candidate but one mate has exactly that mate's s.
template <class T>
double log_sum(double c, double sum, const std::vector<T>& mates) {
  const double others = c + std::log(sum);
  if (mates.empty()) return others;
  double largest = sum == 0 ? -HUGE_VAL : others;
  for (const T s : mates) largest = std::max<double>(s, largest);
  double total = sum == 0 ? 0 : std::exp(others - largest);
  for (const T s : mates) total += std::exp(s - largest);
  return largest + std::log(total);
}

}  // namespace

template <class T>
void contrastive_forward(const Contrastive<T>& in, const Parallel& parallel, T* loss, T* lse) {
  const auto forward_tiles = CLUSTERCL_PICK(contrastive_forward_tiles<T>);
  const auto exact_rows = CLUSTERCL_PICK(contrastive_exact_rows<T>);
  const ContrastiveRows<T> rows(in, parallel);
  std::vector<double> sum(rows.padded), positive(rows.tiles.attract ? rows.padded : 0);
  for_each_tiles(in, rows.blocks, parallel, [&](std::int64_t i, std::int64_t from, std::int64_t to) {
    if (from < to) forward_tiles(rows.tiles, i, from, to, sum.data(), positive.data());
  });

  const std::int64_t end = in.first + in.count;
  parallel.for_each(in.first / kBlock, (end + kBlock - 1) / kBlock, 1, [&](std::int64_t from, std::int64_t to) {
    std::vector<T> mates;
    for (std::int64_t block = from; block < to; ++block) {
      T largest[kBlock];
      double again[kBlock];
      bool summed_again = false;
      for (std::int64_t i = std::max(block * kBlock, in.first); i < std::min((block + 1) * kBlock, end); ++i) {
        mates.clear();
        double positives = 0;
        if (rows.tiles.attract) {
          positives = positive[i] * static_cast<double>(rows.tiles.inverse_temperature);
        } else {
          rows.for_each_mate(i, [&](std::int64_t p) { mates.push_back(rows.similarity(i, p)); });
          for (const T s : mates) positives += s;
        }
        double total = log_sum(rows.c, sum[i], mates);
        // A sum of 0 is one of no candidates, but for weights, of which the terms that are too low may come to 0 as well.
        if ((sum[i] != 0 || rows.tiles.levels > 0) && rows.too_low(total)) {
          if (!summed_again) exact_rows(rows.tiles, block, largest, again);
          summed_again = true;
          total = log_sum(static_cast<double>(largest[i % kBlock]), again[i % kBlock], mates);
        }
        lse[i - in.first] = static_cast<T>(total);
        loss[i - in.first] = static_cast<T>(total - positives / static_cast<double>(rows.positives[i]));
      }
    }
  });
}

template <class T>
void contrastive_backward(const Contrastive<T>& in, const Parallel& parallel, const T* lse, const T* grad_loss, T* grad_rows,
                          double* grad_temperature) {
  const auto backward_tiles = CLUSTERCL_PICK(contrastive_backward_tiles<T>);
  ContrastiveRows<T> rows(in, parallel);
  const std::int64_t width = rows.tiles.width, end = in.first + in.count;
  std::vector<T> all_lse(rows.padded), grad(rows.padded), factor(rows.padded), share(rows.padded);
  const auto exact = std::make_unique<bool[]>(rows.blocks);
  for (std::int64_t i = in.first; i < end; ++i) {
    all_lse[i] = lse[i - in.first];
    grad[i] = grad_loss[i - in.first];
    share[i] = grad[i] / static_cast<T>(rows.positives[i]);
    const double total = static_cast<double>(all_lse[i]);
    if (rows.too_low(total))
      exact[i / kBlock] = true;
    else
      factor[i] = static_cast<T>(static_cast<double>(grad[i]) * std::exp(rows.c - total));
  }
  rows.tiles.lse = all_lse.data();
  rows.tiles.grad = grad.data();
  rows.tiles.factor = factor.data();
  rows.tiles.share = share.data();
  rows.tiles.exact = exact.get();

  const Buffer<T> pull = buffer<T>(rows.padded * width);  // dL/du times the temperature
  parallel.for_each(0, rows.blocks, 1, [&](std::int64_t from, std::int64_t to) {
    std::fill(pull.get() + from * kBlock * width, pull.get() + to * kBlock * width, T{0});
  });
  for_each_tiles(in, rows.blocks, parallel, [&](std::int64_t i, std::int64_t from, std::int64_t to) {
    if (from < to) backward_tiles(rows.tiles, i, from, to, pull.get());
  });

  std::vector<double> radial(rows.blocks);  // sum of <u_i, dL/du_i> per block, added in order below
  parallel.for_each(0, rows.blocks, 1, [&](std::int64_t from, std::int64_t to) {
    std::vector<double> x(width), u(width);
    for (std::int64_t i = from * kBlock; i < std::min(to * kBlock, in.n); ++i) {
      const auto add_row = [&](double times, const T* source, std::int64_t row, std::vector<double>& to_row) {
        for (std::int64_t f = 0; f < width; f += kPanel<T>) {
          const T* panel = source + row_offset<T>(row, f, width);
          for (int k = 0; k < kPanel<T>; ++k) to_row[f + k] += times * static_cast<double>(panel[k]);
        }
      };
      std::fill(x.begin(), x.end(), 0.0);
      std::fill(u.begin(), u.end(), 0.0);
      add_row(1, pull.get(), i, x);
      add_row(1, rows.tiles.rows, i, u);
      if (!rows.tiles.attract)
        rows.for_each_mate(i, [&](std::int64_t p) {
          const T s = rows.similarity(i, p);
          const auto weight = [&](std::int64_t anchor) {
            return grad[anchor] == 0 ? 0.0 : static_cast<double>(grad[anchor] * std::exp(s - all_lse[anchor]) - share[anchor]);
          };
          add_row(weight(i) + weight(p), rows.tiles.rows, p, x);
        });
      double along = 0;
      for (std::int64_t f = 0; f < in.d; ++f) along += x[f] * u[f];
      radial[i / kBlock] += along;
      if (!in.normalize) along = 0;
      const double norm = in.normalize ? rows.norm[i] : 1;
      // A row of zeros stays one: its gradient is 0.
      const double by = norm == 0 ? HUGE_VAL : in.temperature * norm;
      for (std::int64_t f = 0; f < in.d; ++f) grad_rows[i * in.d + f] = static_cast<T>((x[f] - u[f] * along) / by);
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
