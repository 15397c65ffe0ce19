// What both passes of contrastive_cuda.h share: prepared rows, who is whose candidate and positive, the workspace.
#pragma once

#include <cmath>
#include <type_traits>

#include "contrastive_cuda.h"
#include "launches.cuh"
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

struct RowMarks {
  std::int64_t image, label;
};

__device__ inline RowMarks row_marks(const ContrastiveIds& ids, std::int64_t i) {
  return {ids.image[i], ids.label != nullptr ? ids.label[i] : ids.ignore_label};
}

// The marks of a tile in shared memory. kLabels: 1, or kMaxLevels where levels have weights; then the labels of the tile's rows
// lie behind those of its columns, since registers hold no more than one of them beside the products.
template <int kLabels>
struct TileMarks {
  std::int64_t* at;  // (1 + kLabels, kTile), (kLabels, kTile)
  static constexpr int kLines = 1 + kLabels + (kLabels > 1 ? kLabels : 0);
  static constexpr std::size_t kBytes = kLines * kTile * sizeof(std::int64_t);

  __device__ void* end() const { return at + kLines * kTile; }
  __device__ std::int64_t& image(int column) const { return at[column]; }
  __device__ std::int64_t& label(int l, int column) const { return at[(1 + l) * kTile + column]; }
  __device__ std::int64_t& row_label(int l, int row) const { return at[(1 + kLabels + l) * kTile + row]; }

  // Row j of all rows as a column of the tile; columns that are not there match what they like, since nobody asks.
  __device__ void set_column(const ContrastiveIds& ids, int column, std::int64_t j) const {
    const bool there = j < ids.n;
    image(column) = there ? ids.image[j] : 0;
    for (int l = 0; l < kLabels; ++l) label(l, column) = there ? label_of(ids, l, j) : ids.ignore_label;
  }
  // Row i of all rows as row `row` of the tile.
  __device__ void set_row(const ContrastiveIds& ids, int row, std::int64_t i) const {
    for (int l = 0; l < kLabels; ++l) row_label(l, row) = i < ids.n ? label_of(ids, l, i) : ids.ignore_label;
  }

 private:
  __device__ static std::int64_t label_of(const ContrastiveIds& ids, int l, std::int64_t i) {
    return ids.label != nullptr && l < (kLabels > 1 ? ids.levels : 1) ? ids.label[l * ids.n + i] : ids.ignore_label;
  }
};

struct Relation {
  bool candidate, positive;
};

// Of two different rows, without levels.
__device__ inline Relation relation(const ContrastiveIds& ids, const RowMarks& i, const RowMarks& j) {
  const bool same_image = i.image == j.image;
  const bool same_label = i.label == j.label && i.label != ids.ignore_label;
  if (ids.same_class == SameClass::exclude) return {same_image || !same_label, same_image};
  return {true, same_image || (ids.same_class == SameClass::attract && same_label)};
}

// Where the product s[c][2 h + e] of a lane stands in the bits of same_images.
__device__ inline int bit_of(int h, int c, int e) { return 16 * h + 2 * c + e; }

// A bit for each product of the lane: are its row and column of one image?
template <int kLabels>
__device__ inline std::uint32_t same_images(const std::int64_t (&image)[2], const TileMarks<kLabels>& marks, int t) {
  std::uint32_t out = 0;
#pragma unroll
  for (int c = 0; c < kGroups; ++c)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const std::int64_t theirs = marks.image(8 * c + 2 * t + e);
      for (int h = 0; h < 2; ++h) out |= static_cast<std::uint32_t>(image[h] == theirs) << bit_of(h, c, e);
    }
  return out;
}

// Adds the log2 of their weights to products of other images, s in base 2; -inf is no candidate. Level by level, for few
// registers. row: of the tile, the lane's first.
template <class Sum, int kLabels>
__device__ inline void shift_by_levels(Sum (&s)[kGroups][4], std::uint32_t same_image, const ContrastiveIds& ids,
                                       const TileMarks<kLabels>& marks, int row, int t) {
#pragma unroll 1
  for (int l = 0; l < ids.levels; ++l) {
    const Sum shift = static_cast<Sum>(ids.level_shift[l]);
    const std::int64_t own[2] = {marks.row_label(l, row), marks.row_label(l, row + 8)};
#pragma unroll
    for (int c = 0; c < kGroups; ++c)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const std::int64_t theirs = marks.label(l, 8 * c + 2 * t + e);
        for (int h = 0; h < 2; ++h) {
          const bool weighed = own[h] == theirs && theirs != ids.ignore_label && (same_image >> bit_of(h, c, e) & 1) == 0;
          Sum& x = s[c][2 * h + e];
          // Not a sum where nothing is left: it would carry on what is not finite.
          if (weighed) x = shift == -INFINITY ? shift : x + shift;
        }
      }
  }
}

// A lane's products of a tile to similarities in base 2, levels weighed: scale of its two rows, inverse of the tile's columns.
// Returns the bits of same_images, 0 without levels.
template <class Sum, int kLabels>
__device__ inline std::uint32_t to_similarities(Sum (&s)[kGroups][4], const Sum (&scale)[2], const Sum* inverse,
                                                const ContrastiveIds& ids, const std::int64_t (&image)[2],
                                                const TileMarks<kLabels>& marks, int row, int t) {
#pragma unroll
  for (int c = 0; c < kGroups; ++c)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[c][e] *= scale[e / 2] * inverse[8 * c + 2 * t + e % 2];
  if constexpr (kLabels > 1) {
    const std::uint32_t out = same_images(image, marks, t);
    shift_by_levels(s, out, ids, marks, row, t);
    return out;
  } else {
    return 0;
  }
}

// Of two different rows, one a column of the tile, that to_similarities has been at: x is their similarity.
template <class Sum, int kLabels>
__device__ inline Relation relation(Sum x, std::uint32_t same_image, int bit, const ContrastiveIds& ids, const RowMarks& i,
                                    const TileMarks<kLabels>& marks, int column) {
  if constexpr (kLabels > 1) {
    return {x != -INFINITY, (same_image >> bit & 1) != 0};
  } else {
    return relation(ids, i, {marks.image(column), marks.label(0, column)});
  }
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
