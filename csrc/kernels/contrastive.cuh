// What both passes of contrastive_cuda.h share: prepared rows, who is whose candidate and positive, the workspace.
#pragma once

#include <cmath>
#include <type_traits>

#include "contrastive_cuda.h"
#include "tile.cuh"
#include "workspace.h"

namespace clustercl {

// Of a launch, without what is a type. pitch: elements of a prepared row, whole chunks of output; width: those that hold
// features, whole chunks of products; n_tiles * kTile rows are prepared, zeros behind the last.
struct ContrastiveSizes {
  std::int64_t n, d, n_tiles, pitch, width, first, count;
};

// By row; labels null under `ignore`.
struct ContrastiveIds {
  const std::int64_t *image, *label;
  std::int64_t ignore_label;
  SameClass same_class;
  std::int64_t n;
  int levels;
  double level_shift[kMaxLevels];  // log2 of the weights: -inf for 0
};

template <class E>
struct ContrastivePrepared {
  typename E::Element* units;       // (n_tiles * kTile, pitch): inverse_i inverse_j <units_i, units_j> = <u_i, u_j>
  typename E::Sum* inverse;         // 0 for rows of norm 0
  typename E::Sum* inverse_norm;    // 1 / |x|, 0 for rows of norm 0, 1 where rows are taken as they are
};

// kLabels: 1, or kMaxLevels where levels have weights.
template <int kLabels>
struct RowMarks {
  std::int64_t image, label[kLabels];
};

template <int kLabels>
__device__ inline RowMarks<kLabels> row_marks(const ContrastiveIds& ids, std::int64_t i) {
  RowMarks<kLabels> out{ids.image[i], {}};
#pragma unroll
  for (int l = 0; l < kLabels; ++l) {
    const bool known = kLabels == 1 ? ids.label != nullptr : l < ids.levels;
    out.label[l] = known ? ids.label[l * ids.n + i] : ids.ignore_label;
  }
  return out;
}

// The marks of a tile's columns, in shared memory.
template <int kLabels>
struct TileMarks {
  std::int64_t* at;  // (1 + kLabels, kTile)
  static constexpr std::size_t kBytes = (1 + kLabels) * kTile * sizeof(std::int64_t);

  __device__ void* end() const { return at + (1 + kLabels) * kTile; }
  __device__ void set(int column, const RowMarks<kLabels>& marks) const {
    at[column] = marks.image;
#pragma unroll
    for (int l = 0; l < kLabels; ++l) at[(1 + l) * kTile + column] = marks.label[l];
  }
  __device__ RowMarks<kLabels> get(int column) const {
    RowMarks<kLabels> out{at[column], {}};
#pragma unroll
    for (int l = 0; l < kLabels; ++l) out.label[l] = at[(1 + l) * kTile + column];
    return out;
  }
};

template <class Sum>
struct Relation {
  bool candidate, positive;
  Sum shift;  // log2 of the pair's weight
};

// Of two different rows.
template <class Sum, int kLabels>
__device__ inline Relation<Sum> relation(const ContrastiveIds& ids, const RowMarks<kLabels>& i, const RowMarks<kLabels>& j) {
  const bool same_image = i.image == j.image;
  if constexpr (kLabels > 1) {
    Sum shift = 0;
#pragma unroll
    for (int l = 0; l < kLabels; ++l)
      if (!same_image && i.label[l] == j.label[l] && i.label[l] != ids.ignore_label) shift += static_cast<Sum>(ids.level_shift[l]);
    return {shift > -INFINITY, same_image, shift};
  }
  const bool same_label = i.label[0] == j.label[0] && i.label[0] != ids.ignore_label;
  if (ids.same_class == SameClass::exclude) return {same_image || !same_label, same_image, 0};
  return {true, same_image || (ids.same_class == SameClass::attract && same_label), 0};
}

inline ContrastiveIds ids_of(const ContrastiveCuda& in) {
  ContrastiveIds out{in.image, in.label, in.ignore_label, in.same_class, in.n, in.levels, {}};
  for (int l = 0; l < in.levels; ++l) out.level_shift[l] = std::log2(in.level_weight[l]);
  return out;
}

template <class E>
ContrastiveSizes sizes_of(const ContrastiveCuda& in) {
  const auto up = [](std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; };
  const std::int64_t d = in.d > 0 ? in.d : 1;
  return {in.n, in.d, (in.n + kTile - 1) / kTile, up(d, E::kOut), up(d, E::kChunk), in.first, in.count};
}

template <class E>
ContrastivePrepared<E> prepared_in(Parts& parts, const ContrastiveSizes& sizes) {
  const std::int64_t rows = sizes.n_tiles * kTile;
  ContrastivePrepared<E> out{};
  out.units = parts.take<typename E::Element>(rows * sizes.pitch);
  out.inverse = parts.take<typename E::Sum>(rows);
  out.inverse_norm = parts.take<typename E::Sum>(rows);
  return out;
}

// Fills `out` from the rows of `in`.
template <class E>
cudaError_t prepare_rows_cuda(const ContrastiveCuda& in, const ContrastiveSizes& sizes, const ContrastivePrepared<E>& out,
                              cudaStream_t stream);

// call(labels) with the number of labels that the kernels compare, as a type.
template <class F>
auto with_labels(const ContrastiveCuda& in, const F& call) {
  return in.levels > 0 ? call(std::integral_constant<int, kMaxLevels>{}) : call(std::integral_constant<int, 1>{});
}

// call(E{}) for the element type of a precision.
template <class F>
auto with_elements(CudaPrecision precision, const F& call) {
  switch (precision) {
    case CudaPrecision::bf16: return call(Bf16{});
    case CudaPrecision::tf32x3: return call(Tf32x3{});
    case CudaPrecision::fma: return call(Fma{});
    default: return call(Tf32{});
  }
}

}  // namespace clustercl
