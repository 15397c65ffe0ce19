// What both passes of contrastive_cuda.h share: prepared rows, who is whose candidate and positive, the workspace.
#pragma once

#include <cmath>

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
};

template <class E>
struct ContrastivePrepared {
  typename E::Element* units;       // (n_tiles * kTile, pitch): inverse_i inverse_j <units_i, units_j> = <u_i, u_j>
  typename E::Sum* inverse;         // 0 for rows of norm 0
  typename E::Sum* inverse_norm;    // 1 / |x|, 0 for rows of norm 0, 1 where rows are taken as they are
};

struct RowMarks {
  std::int64_t image, label;
};

__device__ inline RowMarks row_marks(const ContrastiveIds& ids, std::int64_t i) {
  return {ids.image[i], ids.label == nullptr ? ids.ignore_label : ids.label[i]};
}

struct Relation {
  bool candidate, positive;
};

// Of two different rows.
__device__ inline Relation relation(const ContrastiveIds& ids, const RowMarks& i, const RowMarks& j) {
  const bool same_image = i.image == j.image, same_label = i.label == j.label && i.label != ids.ignore_label;
  if (ids.same_class == SameClass::exclude) return {same_image || !same_label, same_image};
  return {true, same_image || (ids.same_class == SameClass::attract && same_label)};
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
