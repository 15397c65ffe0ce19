// Pseudo-class-masked NT-Xent: each row's loss, and the gradient by rows and temperature, fused over tiles.
//
//   u_i = x_i / |x_i| (0 for a row of norm 0; x_i itself without `normalize`), s_ij = <u_i, u_j> / temperature
//   positives P(i)  = rows j != i of i's image; under `attract` of i's group
//   candidates A(i) = rows j != i; under `exclude` less the rows of i's group that are of another image
//   loss_i = logsumexp_{j in A(i)} s_ij - mean_{p in P(i)} s_ip
//   with p_ij = exp(s_ij - lse_i) on A(i) and a_ij = g_i (p_ij - [j in P(i)] / |P(i)|), g the gradient of the losses:
//   dL/du_i = sum_j (a_ij + a_ji) u_j / temperature,  dL/dx_i = (dL/du_i - u_i <u_i, dL/du_i>) / |x_i|
//   dL/dtemperature = -sum_i <u_i, dL/du_i> / (2 temperature)
// The group of a row is its pseudo-class; a row whose pseudo-class is `ignore_label`, or any row under `ignore`, forms a
// group with its own image alone. Rows first <= i < first + count are anchors: they have a loss; all rows are columns.
// Never stored: anything n x n. Beside the result: u twice (rows and panels, blocks.h) and a few numbers per row.
// Shapes: rows (n, d) of any strides; image, pseudo_class (n,); loss, lse, grad_loss (count,); grad_rows (n, d) contiguous.
// Threads take blocks of kBlockRows rows and pass over all columns, kBlockColumns at a time: products, mask, running
// maximum and sum of a block stay in cache, and no two threads write one row. Because s_ij = s_ji, the backward pass weighs
// row j with a_ij + a_ji at once and owns its rows of the gradient as well.
// Numerics: products in T, sums over blocks in double; the maximum runs over kept entries only. s_ij has the same bits
// whichever pass or row asks for it, so a row with one candidate, its positive, has loss and gradient exactly 0.
// Determinism: a row's sums have one order; the result does not depend on the number of threads.
// Source: Chen et al. 2020 (NT-Xent), Khosla et al. 2020 (attract), Zhang et al. 2022 (exclude).
#pragma once

#include <cstdint>

#include "blocks.h"
#include "dispatch.h"
#include "parallel.h"

namespace clustercl {

enum class SameClass { exclude, attract, ignore };

template <class T>
struct Contrastive {
  const T* rows;
  std::int64_t n, d, row_stride, column_stride;  // strides in elements
  const std::int64_t* image;                     // the same number for all views of an image
  const std::int64_t* pseudo_class;              // the same for all views of an image; null under `ignore`
  std::int64_t ignore_label;
  SameClass same_class;
  double temperature;
  bool normalize;
  std::int64_t first, count;
};

// T is float or double. Throws std::invalid_argument when an image has one row only.
template <class T>
void contrastive_forward(const Contrastive<T>& in, const Parallel& parallel, T* loss, T* lse);

template <class T>
void contrastive_backward(const Contrastive<T>& in, const Parallel& parallel, const T* lse, const T* grad_loss, T* grad_rows,
                          double* grad_temperature);

// A number per row, as wide as T so that a register of them masks a register of T.
template <class T>
struct RowIdOf;
template <>
struct RowIdOf<float> {
  using type = std::int32_t;
};
template <>
struct RowIdOf<double> {
  using type = std::int64_t;
};
template <class T>
using RowId = typename RowIdOf<T>::type;

// What contrastive.cpp prepares for the blocks: padded rows have image = group = -1, grad = share = lse = 0.
template <class T>
struct ContrastiveRows {
  std::int64_t n, d, stride, padded;
  const T* unit;    // (padded, stride)
  const T* panels;  // (padded / kPanel, d, kPanel)
  const RowId<T>* image;
  const RowId<T>* group;
  SameClass same_class;
  T inverse_temperature;
  const T* lse;    // backward only, (padded,)
  const T* grad;   // g_i, 0 for rows that are no anchors
  const T* share;  // g_i / |P(i)|
};

CLUSTERCL_PER_ISA(
    // Of the rows row <= i < row + kBlockRows: largest candidate, sum over candidates of exp(s - largest), sum of positives.
    template <class T>
    void contrastive_forward_block(const ContrastiveRows<T>& in, std::int64_t row, T* largest, double* sum,
                                   double* positive);
    // out (kBlockRows, stride) += sum_j (a_ij + a_ji) u_j over the columns from <= j < to, multiples of kBlockColumns.
    template <class T>
    void contrastive_backward_block(const ContrastiveRows<T>& in, std::int64_t row, std::int64_t from, std::int64_t to,
                                    T* out);)

}  // namespace clustercl
