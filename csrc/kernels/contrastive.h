// Pseudo-class-masked NT-Xent: each row's loss, and the gradient by rows and temperature, fused over tiles.
//
//   u_i = x_i / |x_i| (0 for a row of norm 0; x_i itself without `normalize`), s_ij = <u_i, u_j> / temperature
//   positives P(i)  = rows j != i of i's image; under `attract` of i's group
//   candidates A(i) = rows j != i; under `exclude` less the rows of i's group that are of another image
//   weight w_ij = 1; with levels, for rows of two images, the product of the weights of the levels that they share
//   loss_i = lse_i - mean_{p in P(i)} s_ip,  lse_i = log sum_{j in A(i)} w_ij exp(s_ij)
//   with p_ij = w_ij exp(s_ij - lse_i) on A(i) and a_ij = g_i (p_ij - [j in P(i)] / |P(i)|), g the gradient of the losses:
//   dL/du_i = sum_j (a_ij + a_ji) u_j / temperature,  dL/dx_i = (dL/du_i - u_i <u_i, dL/du_i>) / |x_i|
//   dL/dtemperature = -sum_i <u_i, dL/du_i> / (2 temperature)
// The group of a row is its pseudo-class; a row whose pseudo-class is `ignore_label`, or any row under `ignore`, forms a
// group with its own image alone, on its own level. One level of weight 0 is `exclude`, of weight 1 `ignore`. Rows first <= i < first + count are anchors: they have a loss; all rows are columns.
// Never stored: anything n x n. Beside the result: u twice (rows and panels, blocks.h), in the backward pass its gradient,
// and some 60 bytes per row, for any number of threads.
// Tiles: s_ij = s_ji, so the products of two blocks are computed once, for i <= j. Forward, a tile is turned into
// exponentials that are summed along its rows and its columns; backward, into the weights a_ij + a_ji, which multiply the
// columns' u into the rows' gradient and the rows' u into the columns'. Threads meet in pairs.h: a task owns two groups of
// blocks. Under `exclude` and `ignore` a tile leaves out a row's whole group (with levels its image), its positives with it:
// they are few, and added row by row at the end (contrastive.cpp).
// Numerics: products and exponentials in T, sums over tiles in double. exp(s - c) with one c for all rows needs one
// exponential where a maximum per row would need two (its row's and its column's): c = max(0, bound - room), bound >= any s
// by Cauchy and Schwarz, room 80 for float, so that nothing overflows, and everything down to c - 87 counts. A row whose
// log-sum comes out below c - 55, where terms that matter may have been lost, is summed again with the maximum over its own
// candidates, and tiles with such a row weigh by exp(s - lse_i) and exp(s - lse_j). With rows of length 1 that cannot happen
// at temperatures from 0.0182 on, and it takes positives and negatives far apart below.
// Determinism: a row's sums have one order for a given number of threads.
// Source: Chen et al. 2020 (NT-Xent), Khosla et al. 2020 (attract), Zhang et al. 2022 (exclude).
#pragma once

#include <cstdint>

#include "blocks.h"
#include "dispatch.h"
#include "parallel.h"

namespace clustercl {

constexpr int kMaxLevels = 4;

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
  int levels = 0;                         // 0, or under `exclude` 1 to kMaxLevels with a weight each: pseudo_class is (levels, n)
  const double* level_weight = nullptr;  // (levels,), 0..1
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

// What the tiles read; arrays per row are padded to whole blocks.
template <class T>
struct ContrastiveTiles {
  std::int64_t n, d, width;  // width: of a row as stored
  const T* rows;
  const T* panels;
  bool attract;
  // Rows with the same number are no candidates of each other: the group; under attract the row, with levels the image.
  const RowId<T>* left_out;
  const RowId<T>* group;     // under attract: rows with the same number are positives of each other; padded rows -1
  int levels;
  const RowId<T>* level[kMaxLevels];  // per level: rows with the same number share it
  T level_weight[kMaxLevels];
  T inverse_temperature;
  T scale, shift;  // 2^(dot * scale - shift) = exp(s - c)
  // Backward only; padded rows hold 0.
  const bool* exact;  // per block: it holds a row whose log-sum is too far below c
  const T* lse;
  const T* grad;    // g_i, 0 for rows that are no anchors
  const T* factor;  // g_i exp(c - lse_i)
  const T* share;   // g_i / |P(i)|
};

CLUSTERCL_PER_ISA(
    // Block i against the blocks from <= j < to, j >= i: adds exp(s - c) of candidates to sum and, under attract, the dot
    // products of positives to positive, for the rows of all these blocks (a block against itself once).
    template <class T>
    void contrastive_forward_tiles(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t from, std::int64_t to,
                                   double* sum, double* positive);
    // Block i against all: its rows' largest candidate and sum of exp(s - largest), -inf and 0 where there is none.
    template <class T>
    void contrastive_exact_rows(const ContrastiveTiles<T>& in, std::int64_t i, T* largest, double* sum);
    // Adds sum_j (a_ij + a_ji) u_j over these tiles to out, laid out as rows, for the rows of both blocks.
    template <class T>
    void contrastive_backward_tiles(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t from, std::int64_t to,
                                    T* out);)

}  // namespace clustercl
