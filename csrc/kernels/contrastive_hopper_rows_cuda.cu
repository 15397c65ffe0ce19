// Prepares rows for the passes of contrastive_hopper.h: numbers of 16 bits in tiles, keys, and who follows whom in an image.
//
// Units: a row is multiplied by a power of two that brings its largest element to 1/2 .. 1 and rounded to the type of the
// products: bfloat16 and float16 rows lose nothing that counts, float32 rows keep the 11 digits that TF32 has, or, split in two,
// are off by 2^-23 of the largest at most. Its length is that of the rounded row, so that what lies along it can be taken out.
// Rows that are taken as they are (bfloat16 alone) stay so.
// Equal labels and images are found by hashing, in time linear in n; then rows are sorted, anchors first, by the first row of
// their pseudo-class. Which slot a number gets depends on the order of threads; which rows share one does not, and that is all
// that is used: deterministic.
#include "contrastive_hopper.h"

#if CLUSTERCL_HOPPER
#include <cub/device/device_radix_sort.cuh>

#include "contrastive_hopper.cuh"
#include "elements.cuh"

namespace clustercl {
namespace {

__device__ std::int32_t slot_of(std::int32_t* table, std::int64_t size, const std::int64_t* ids, std::int32_t i) {
  std::uint64_t hash = static_cast<std::uint64_t>(ids[i]) * 0x9e3779b97f4a7c15u;
  hash ^= hash >> 29;
  hash *= 0xbf58476d1ce4e5b9u;
  for (std::int64_t at = static_cast<std::int64_t>(hash >> 32) & (size - 1);; at = (at + 1) & (size - 1)) {
    std::int32_t owner = *const_cast<volatile std::int32_t*>(table + at);
    if (owner < 0) owner = atomicCAS(table + at, -1, i);
    if (owner < 0 || ids[owner] == ids[i]) return static_cast<std::int32_t>(at);
  }
}

__global__ void find_slots_kernel(HopperSizes sizes, const std::int64_t* image, const std::int64_t* label,
                                  std::int64_t ignore_label, HopperTables tables) {
  for (std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; i < sizes.n;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    const auto own = static_cast<std::int32_t>(i);
    const std::int32_t slot = slot_of(tables.image, tables.size, image, own);
    tables.image_slot[i] = slot;
    tables.link[i] = atomicExch(tables.head + slot, own);
    tables.label_slot[i] = -1;
    if (label == nullptr || label[i] == ignore_label) continue;
    const std::int32_t at = slot_of(tables.label, tables.size, label, own);
    tables.label_slot[i] = at;
    atomicMin(reinterpret_cast<std::uint32_t*>(tables.first + at), static_cast<std::uint32_t>(own));
  }
}

// Keys to sort by: of rows that are no anchors, `other` and the key. A pseudo-class is called by its first row.
__global__ void find_keys_kernel(HopperSizes sizes, HopperTables tables) {
  for (std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x; i < sizes.n;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x) {
    const std::int32_t at = tables.label_slot[i];
    const std::int64_t key = at >= 0 ? tables.first[at] : sizes.n + i;
    const bool anchor = sizes.first <= i && i < sizes.first + sizes.count;
    tables.unsorted[i] = static_cast<std::uint32_t>(key) | (anchor ? 0u : tables.other);
    tables.rows[i] = static_cast<std::int32_t>(i);
  }
}

__device__ std::int32_t next_of_image(const HopperTables& tables, std::int64_t i) {
  std::int32_t next = -1, first = static_cast<std::int32_t>(i);
  for (std::int32_t k = tables.head[tables.image_slot[i]]; k >= 0; k = tables.link[k]) {
    if (k > i && (next < 0 || k < next)) next = k;
    if (k < first) first = k;
  }
  return next < 0 ? first : next;
}

// A number as it is multiplied: `rest` is the second part, 0 where there is none.
template <HopperType kType>
struct Rounded {
  std::uint32_t first, rest = 0;

  __device__ explicit Rounded(float x) : first(element_bits<kType>(x)) {
    if constexpr (is_split(kType)) rest = element_bits<kType>(x - element_value<kType>(first));
  }
  __device__ float value() const {
    if constexpr (is_split(kType)) return element_value<kType>(first) + element_value<kType>(rest);
    return element_value<kType>(first);
  }
};

// A warp per place, a lane two neighbouring features of every 64. kFirst: rows have just been sorted.
template <HopperType kType, bool kFirst, int kChunks, class Source>
__global__ void __launch_bounds__(kGroupThreads)
    prepare_hopper_kernel(const Source* rows, HopperSizes sizes, bool normalize, HopperTables tables, HopperRows out) {
  constexpr int kWarps = kGroupThreads / kWarp;
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; i < sizes.rows;
       i += static_cast<std::int64_t>(gridDim.x) * kWarps) {
    const bool there = i < sizes.n;
    const std::int64_t own = there ? out.row[i] : 0, d = there ? sizes.d : 0;
    const Source* row = rows + own * sizes.d;
    float x[kChunks][2], inverse = there ? 1 : 0, inverse_norm = inverse;
#pragma unroll
    for (int c = 0; c < kChunks; ++c)
      for (int e = 0; e < 2; ++e) {
        const int f = kSwizzledFeatures * c + 2 * lane + e;
        x[c][e] = f < d ? read(row[f]) : 0.0f;
      }
    if (normalize) {
      float largest = 0;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) largest = fmaxf(largest, fmaxf(fabsf(x[c][0]), fabsf(x[c][1])));
      const RowRange<float> range(largest);
      float square = 0;
#pragma unroll
      for (int c = 0; c < kChunks; ++c)
        for (int e = 0; e < 2; ++e) {
          x[c][e] *= range.half;
          x[c][e] *= range.rest;
          const float rounded = Rounded<kType>(x[c][e]).value();
          square += rounded * rounded;
        }
      for (int other = kWarp / 2; other > 0; other /= 2) square += shuffle_xor(square, other);
      inverse = range.largest == 0 ? 0.0f : 1 / sqrtf(square);
      inverse_norm = inverse * range.half * range.rest;
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const Rounded<kType> left(x[c][0]), right(x[c][1]);
      const std::uint32_t two = right.first << 16 | left.first;
      [[maybe_unused]] const std::uint32_t two_rest = right.rest << 16 | left.rest;
      const std::int64_t at = number_of<kType>(kSwizzledFeatures * c + 2 * lane);
      *reinterpret_cast<std::uint32_t*>(out.units + swizzled(i, at, sizes.chunks)) = two;
      if constexpr (is_split(kType))
        *reinterpret_cast<std::uint32_t*>(out.units + swizzled(i, at + kSplitFeatures, sizes.chunks)) = two_rest;
    }
    if (lane != 0) continue;
    out.inverse[i] = inverse;
    out.inverse_norm[i] = inverse_norm;
    if constexpr (kFirst) {
      const std::int32_t key = there ? static_cast<std::int32_t>(tables.sorted[i] & ~tables.other) : kPadding;
      out.key[i] = key;
      out.columns[i / 2].inverse[i % 2] = inverse;
      out.columns[i / 2].key[i % 2] = key;
      if (!there) continue;
      out.key_at[i] = key;
      out.place[own] = static_cast<std::int32_t>(i);
      out.next[own] = next_of_image(tables, own);
    } else {
      out.key[i] = there ? out.key_at[i] : kPadding;
    }
  }
}

cudaError_t sort(void* sorting, std::size_t& bytes, const HopperTables& tables, std::int32_t* rows, std::int64_t n,
                 cudaStream_t stream) {
  return cub::DeviceRadixSort::SortPairs(sorting, bytes, tables.unsorted, tables.sorted, tables.rows, rows,
                                         static_cast<int>(n), 0, tables.sorted_bits, stream);
}

// The host asks twice a pass, and cub takes longer to answer than to begin the sort. The one thing kept from call to call; what it
// is depends on nothing else.
std::size_t sorting_bytes(const HopperTables& tables, std::int64_t n) {
  struct Asked {
    int device = -1, bits = 0;
    std::int64_t n = 0;
    std::size_t bytes = 0;
  };
  thread_local Asked last;
  int device = 0;
  if (cudaGetDevice(&device) == cudaSuccess && last.device == device && last.bits == tables.sorted_bits && last.n == n)
    return last.bytes;
  std::size_t bytes = 0;
  const cudaError_t error = sort(nullptr, bytes, tables, nullptr, n, nullptr);
  if (error == cudaSuccess) last = {device, tables.sorted_bits, n, bytes};
  return bytes;
}

template <HopperType kType, class Source>
cudaError_t prepare(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperTables* tables, const HopperRows& rows,
                    cudaStream_t stream) {
  return with_chunks<kType>(sizes, [&](auto chunks) {
    constexpr int kChunks = decltype(chunks)::value;
    const auto kernel = tables != nullptr ? prepare_hopper_kernel<kType, true, kChunks, Source>
                                          : prepare_hopper_kernel<kType, false, kChunks, Source>;
    return launch(kernel, grid_for(sizes.rows, kGroupThreads / kWarp, 65536), kGroupThreads, 0, stream,
                  static_cast<const Source*>(in.rows), sizes, in.normalize, tables != nullptr ? *tables : HopperTables{}, rows);
  });
}

cudaError_t find_order(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const HopperTables& tables,
                       cudaStream_t stream) {
  cudaError_t error = cudaMemsetAsync(tables.image, 0xff, 4 * tables.size * sizeof(std::int32_t), stream);
  if (error != cudaSuccess) return error;
  constexpr int kThreads = 256;
  const dim3 blocks = grid_for(sizes.n, kThreads, 4096);
  error = launch(find_slots_kernel, blocks, kThreads, 0, stream, sizes, in.image,
                 in.same_class == SameClass::exclude ? in.label : nullptr, in.ignore_label, tables);
  if (error != cudaSuccess) return error;
  error = launch(find_keys_kernel, blocks, kThreads, 0, stream, sizes, tables);
  if (error != cudaSuccess) return error;
  std::size_t bytes = tables.sorting_bytes;
  return sort(tables.sorting, bytes, tables, rows.row, sizes.n, stream);
}

}  // namespace

HopperRows hopper_rows_in(Parts& parts, const HopperSizes& sizes, std::int32_t* order, bool forward) {
  HopperRows out{};
  out.units = parts.take<std::uint16_t>(sizes.rows * sizes.chunks * kSwizzledFeatures);
  out.inverse = parts.take<float>(sizes.rows);
  out.inverse_norm = parts.take<float>(sizes.rows);
  out.key = parts.take<std::int32_t>(sizes.rows);
  if (forward) out.columns = parts.take<ForwardColumns>(sizes.rows / 2);
  if (order == nullptr) return out;
  static_assert(kOrderRows == 4);
  out.row = order;
  out.key_at = order + sizes.n;
  out.place = order + 2 * sizes.n;
  out.next = order + 3 * sizes.n;
  return out;
}

HopperTables hopper_tables_in(Parts& parts, const HopperSizes& sizes) {
  HopperTables out{};
  // Keys lie below 2 n; fewer bits are sorted in fewer passes.
  int bits = 1;
  while (2 * sizes.n > std::int64_t{1} << bits) ++bits;
  out.other = 1u << bits;
  out.sorted_bits = bits + (sizes.count < sizes.n);
  out.size = 256;
  while (out.size < 2 * sizes.n) out.size *= 2;
  // One after the other, to be cleared at once.
  std::int32_t* const tables = parts.take<std::int32_t>(4 * out.size);
  std::int64_t at = 0;
  for (std::int32_t** table : {&out.image, &out.label, &out.head, &out.first})
    *table = tables == nullptr ? nullptr : tables + out.size * at++;
  for (std::int32_t** row : {&out.image_slot, &out.label_slot, &out.link, &out.rows}) *row = parts.take<std::int32_t>(sizes.n);
  out.unsorted = parts.take<std::uint32_t>(sizes.n);
  out.sorted = parts.take<std::uint32_t>(sizes.n);
  out.sorting_bytes = sorting_bytes(out, sizes.n);
  out.sorting = parts.take<unsigned char>(static_cast<std::int64_t>(out.sorting_bytes));
  return out;
}

bool hopper_takes(const ContrastiveCuda& in) {
  constexpr std::int64_t kWorthwhile = 4096, kMostRows = std::int64_t{1} << 29;  // below 2 n = 2^30 a key is an int32
  if (in.products == CudaProducts::mma || in.levels > 0 || in.same_class == SameClass::attract) return false;
  if (in.precision == CudaPrecision::fma) return false;
  const HopperType type = hopper_type(in);
  // Weights of rows of any length need not fit into float16.
  if (in.d > kHopperFeatures / (1 + is_split(type)) || in.n > kMostRows || (is_half(type) && !in.normalize)) return false;
  if (in.products == CudaProducts::automatic && in.n < kWorthwhile) return false;
  return has_wgmma();
}

HopperSizes hopper_sizes(const ContrastiveCuda& in) {
  const auto up = [](std::int64_t value, std::int64_t step) { return (value + step - 1) / step * step; };
  const bool split = is_split(hopper_type(in));
  const std::int64_t padded = in.d <= 128 ? 128 : up(in.d, 256), chunks = padded * (1 + split) / kSwizzledFeatures;
  return {in.n, in.d, up(in.n, kHopperRows * kHopperCluster), chunks, padded, in.first, in.count};
}

cudaError_t prepare_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, const HopperTables* tables,
                           cudaStream_t stream) {
  if (tables != nullptr) {
    const cudaError_t error = find_order(in, sizes, rows, *tables, stream);
    if (error != cudaSuccess) return error;
  }
  switch (in.precision) {
    case CudaPrecision::bf16: return prepare<HopperType::bf16, BFloat>(in, sizes, tables, rows, stream);
    case CudaPrecision::half_as_tf32: return prepare<HopperType::f16, Half>(in, sizes, tables, rows, stream);
    case CudaPrecision::tf32: return prepare<HopperType::f16, float>(in, sizes, tables, rows, stream);
    default: return prepare<HopperType::f16x3, float>(in, sizes, tables, rows, stream);
  }
}

}  // namespace clustercl
#endif
