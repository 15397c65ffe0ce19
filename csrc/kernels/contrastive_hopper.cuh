// What the kernels of contrastive_hopper.h share: prepared rows, their keys, columns as the epilogues read them.
#pragma once

#include <type_traits>

#include "contrastive_cuda.h"
#include "hopper.cuh"
#include "launches.cuh"
#include "workspace.h"

namespace clustercl {

constexpr int kHopperFeatures = 512;   // most numbers of a row: those of a block stay in shared memory
constexpr std::int32_t kPadding = -1;  // the key of columns that are not there
constexpr double kLog2OfE = 1.4426950408889634;

// How rows are multiplied. f16x3: each number as a sum of two of float16, 22 digits of it, by three products; what is left out is
// of the order of float32's own rounding.
enum class HopperType { bf16, f16, f16x3 };
__host__ __device__ constexpr bool is_half(HopperType type) { return type != HopperType::bf16; }
__host__ __device__ constexpr bool is_split(HopperType type) { return type == HopperType::f16x3; }
constexpr int kSplitFeatures = 128;  // a row that is split holds the first parts of so many features, then the second parts

// rows: prepared ones, whole clusters of blocks; chunks: of 64 numbers; padded: features, with zeros behind them.
struct HopperSizes {
  std::int64_t n, d, rows, chunks, padded, first, count;
};

// Which number of a prepared row is (the first part of) feature f; the second part lies kSplitFeatures further on.
template <HopperType kType>
__host__ __device__ inline std::int64_t number_of(std::int64_t f) {
  return is_split(kType) ? f / kSplitFeatures * 2 * kSplitFeatures + f % kSplitFeatures : f;
}

// Of two columns: what a lane wants of them in one read.
struct alignas(16) ForwardColumns {
  float inverse[2];
  std::int32_t key[2];
};
struct alignas(32) BackwardColumns {
  float inverse[2], weight[2];  // weight: with inverse multiplied in
  std::int32_t key[2];
  float lse[2];
};

// By place but for place and next, which are by row; units as hopper.cuh stores tiles: inverse_i inverse_j <units_i, units_j> =
// <u_i, u_j>. Rows are put in order: anchors first, then by pseudo-class. So most tiles hold no two rows of one key and need
// not be compared. Rows of one key are not each other's candidates as far as the products go: a pseudo-class, or the row
// alone. Positives are added row by row.
struct HopperRows {
  std::uint16_t* units;
  float *inverse, *inverse_norm;  // 0 for rows of norm 0; 1 / |x|, 1 where rows are taken as they are
  std::int32_t* key;              // by place
  ForwardColumns* columns;        // null in the backward pass
  // The order, (kOrderRows, n): the row at a place and its key; of a row its place and the next row of the image, the first
  // after the last.
  std::int32_t *row, *key_at, *place, *next;
};

// How to find equal numbers: open addressing, a slot is owned by a row; head and link chain the rows of an image, first is the
// first row of a label.
struct HopperTables {
  std::int32_t *image, *label, *head, *first;
  std::int64_t size;  // a power of two
  std::int32_t *image_slot, *label_slot, *link;
  std::uint32_t *unsorted, *sorted, other;  // keys, and what is added to those of rows that are no anchors
  int sorted_bits;
  std::int32_t* rows;                // 0, 1, ...
  void* sorting;
  std::size_t sorting_bytes;
};

HopperSizes hopper_sizes(const ContrastiveCuda& in);
HopperRows hopper_rows_in(Parts& parts, const HopperSizes& sizes, std::int32_t* order, bool forward);
HopperTables hopper_tables_in(Parts& parts, const HopperSizes& sizes);
inline HopperType hopper_type(const ContrastiveCuda& in) {
  if (in.precision == CudaPrecision::bf16) return HopperType::bf16;
  return in.precision == CudaPrecision::tf32x3 ? HopperType::f16x3 : HopperType::f16;
}

// Fills rows; the order of rows only where there are tables to find it by.
cudaError_t prepare_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const HopperTables* tables,
                           cudaStream_t stream);

// Fills loss and lse, by anchor, from sums of 2^(s - largest) by place.
cudaError_t losses_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const float* largest,
                          const double* sum, float* loss, float* lse, cudaStream_t stream);

// By place: weight a (or g, where the range is not narrow) and log-sum in base 2.
struct RowWeights {
  float *weight, *lse;
  BackwardColumns* columns;
  float* unit;  // one number: what all weights were multiplied by; null: 1
};

// Fills out.
cudaError_t weigh_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const float* lse,
                         const float* grad_loss, const RowWeights& out, cudaStream_t stream);

// Adds the positives to pull (by place, times unit) and makes it the gradients; along: (n,), for that by the temperature.
cudaError_t finish_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const float* lse,
                          const float* grad_loss, const float* unit, const float* pull, void* grad_rows, double* along,
                          double* grad_temperature, cudaStream_t stream);

// Places [from, from + width) of rows, against columns: can there be two of one key? first, last: keys of the outermost rows,
// or of all there are where the rows' are not in order.
struct HopperKeys {
  std::int32_t first, last;

  __device__ HopperKeys(const HopperSizes& sizes, const HopperRows& rows, std::int64_t from, int width) {
    const bool any = out_of_order(sizes, from, width);
    first = any ? INT32_MIN : rows.key[from];
    last = any ? INT32_MAX : rows.key[from + width - 1];
  }
  template <int kColumns, class Head>
  __device__ bool meet(const HopperSizes& sizes, const Head* columns, std::int64_t tile) const {
    return out_of_order(sizes, tile * kColumns, kColumns) ||
           (columns[0].key[0] <= last && columns[kColumns / 2 - 1].key[1] >= first);
  }

 private:
  __device__ static bool out_of_order(const HopperSizes& sizes, std::int64_t from, int width) {
    return from + width > sizes.n || (from < sizes.count && sizes.count < from + width);
  }
};

// Similarities in base 2 lie within +- bound: where that is small, no row needs to know its largest.
struct Range {
  bool narrow;
  float bound;
};
__device__ inline Range range_of(double temperature, bool normalize) {
  constexpr double kMost = 50;  // e^(s - bound) stays above 2^-100, sums and weights within float32
  const double bound = kLog2OfE / temperature;
  return {normalize && bound <= kMost, static_cast<float>(bound)};
}

// A number as the products' type and back, in the lower 16 bits.
template <HopperType kType>
__device__ inline std::uint32_t element_bits(float x) {
  if constexpr (!is_half(kType)) return to_bf16(x);
  return to_f16(x);
}
template <HopperType kType>
__device__ inline float element_value(std::uint32_t bits) {
  if constexpr (!is_half(kType)) return as_float(bits << 16);
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(static_cast<std::uint16_t>(bits)));
  return x;
}

// call(chunks) with the number of 64 features that prepared rows have, as a constant.
template <HopperType kType, class Call>
cudaError_t with_chunks(const HopperSizes& sizes, const Call& call) {
  if (sizes.padded == 2 * kSwizzledFeatures) return call(std::integral_constant<int, 2>{});
  if (sizes.padded == 4 * kSwizzledFeatures) return call(std::integral_constant<int, 4>{});
  if constexpr (is_split(kType)) return cudaErrorInvalidValue;
  else return call(std::integral_constant<int, kHopperFeatures / kSwizzledFeatures>{});
}

// A prepared row spread over a warp: lane l holds features 64 c + 2 l and one more of chunk c.
template <int kChunks>
struct SpreadRow {
  float at[kChunks][2];
};
template <HopperType kType, int kChunks>
__device__ inline SpreadRow<kChunks> spread_row(const HopperRows& rows, const HopperSizes& sizes, std::int64_t i) {
  SpreadRow<kChunks> out;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const std::int64_t f = kSwizzledFeatures * c + 2 * (threadIdx.x % kWarp);
    out.at[c][0] = out.at[c][1] = 0;
    for (int part = 0; part <= is_split(kType); ++part) {
      const std::uint32_t two = *reinterpret_cast<const std::uint32_t*>(
          rows.units + swizzled(i, number_of<kType>(f) + part * kSplitFeatures, sizes.chunks));
      out.at[c][0] += element_value<kType>(two & 0xffffu);
      out.at[c][1] += element_value<kType>(two >> 16);
    }
  }
  return out;
}
// In base 2, of the rows at two places whose product is `product`; the same bits whichever comes first.
__device__ inline double similarity(float product, const HopperRows& rows, std::int64_t i, std::int64_t j, double temperature) {
  return static_cast<double>(product * (rows.inverse[i] * rows.inverse[j])) * (kLog2OfE / temperature);
}
// In every lane the product of two.
template <int kChunks>
__device__ inline float dot(const SpreadRow<kChunks>& x, const SpreadRow<kChunks>& y) {
  float sum = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c)
    for (int e = 0; e < 2; ++e) sum += x.at[c][e] * y.at[c][e];
  for (int other = kWarp / 2; other > 0; other /= 2) sum += shuffle_xor(sum, other);
  return sum;
}

}  // namespace clustercl
