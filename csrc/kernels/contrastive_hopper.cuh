// What the kernels of contrastive_hopper.h share: prepared rows, columns as the epilogues read them, the ring of tiles that
// one group of warps fills and two others multiply.
#pragma once

#include "contrastive_cuda.h"
#include "hopper.cuh"
#include "workspace.h"

namespace clustercl {

constexpr int kHopperRows = 128;                   // of a block: two groups of warps, 64 each
constexpr int kHopperCluster = 2;                  // blocks that share what they load
constexpr int kHopperThreads = 3 * kGroupThreads;  // one group loads
constexpr int kHopperFeatures = 512;               // most features: the rows of a block stay in shared memory
constexpr int kHopperSlot = 32 * 1024;             // bytes of a slot of the ring
constexpr int kHopperMostSlots = 6;
constexpr int kHopperHeads = 2;
constexpr int kHopperShared = 227 * 1024;          // of a multiprocessor, for one block
constexpr std::int32_t kPadding = -1;              // the key of columns that are not there
constexpr double kLog2OfE = 1.4426950408889634;

// rows: prepared ones, whole clusters of blocks; chunks: of 64 features.
struct HopperSizes {
  std::int64_t n, d, rows, chunks, first, count;
};

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

// By row but for units, which are as hopper.cuh stores tiles: inverse_i inverse_j <units_i, units_j> = <u_i, u_j>.
// Rows of one key are not each other's candidates as far as the products go: a pseudo-class, or the row alone. Positives are
// added row by row: next is the next row of the image, the first after the last.
struct HopperRows {
  std::uint16_t* units;
  float *inverse, *inverse_norm;  // 0 for rows of norm 0; 1 / |x|, 1 where rows are taken as they are
  std::int32_t *key, *next;
  ForwardColumns* columns;
};

// How to find equal numbers: open addressing, a slot is owned by a row; head and link chain the rows of an image.
struct HopperTables {
  std::int32_t *image, *label, *head, *slot, *link;
  std::int64_t size;  // a power of two
};

HopperSizes hopper_sizes(const ContrastiveCuda& in);
HopperRows hopper_rows_in(Parts& parts, const HopperSizes& sizes);
HopperTables hopper_tables_in(Parts& parts, const HopperSizes& sizes);
inline bool hopper_half(const ContrastiveCuda& in) { return in.precision != CudaPrecision::bf16; }

// Fills rows.
cudaError_t prepare_hopper(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperTables& tables, const HopperRows& rows,
                           cudaStream_t stream);

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

#if defined(CLUSTERCL_SM90A)

// The shared memory of a block: its own rows, the ring, columns, barriers.
template <int kColumns, int kFeatures, class Head>
struct HopperShared {
  static constexpr int kHeadBytes = kColumns / 2 * static_cast<int>(sizeof(Head));
  unsigned char *own, *ring, *heads;
  Barrier *own_full, *full, *empty, *head_full, *head_empty;
  int slots;

  __device__ HopperShared(unsigned char* begin, std::int64_t chunks, int slots)
      : own(begin), ring(own + kHopperRows * chunks * 128), heads(ring + slots * kHopperSlot), slots(slots) {
    own_full = reinterpret_cast<Barrier*>(heads + kHopperHeads * kHeadBytes);
    full = own_full + 1;
    empty = full + kHopperMostSlots;
    head_full = empty + kHopperMostSlots;
    head_empty = head_full + kHopperHeads;
  }
  __device__ void begin() const {
    constexpr int kWarps = 2 * kGroupThreads / kWarp;
    if (threadIdx.x == 0) {
      begin_barrier(own_full, 1);
      for (int k = 0; k < slots; ++k) {
        begin_barrier(full + k, 1);
        begin_barrier(empty + k, kWarps * kHopperCluster);
      }
      for (int k = 0; k < kHopperHeads; ++k) {
        begin_barrier(head_full + k, 1);
        begin_barrier(head_empty + k, kWarps);
      }
      publish_barriers();
    }
    cluster_sync();
  }
};

// A place in a ring and the parity of its phase.
struct Place {
  int at = 0, parity = 0;
  __device__ void next(int slots) {
    if (++at < slots) return;
    at = 0;
    parity ^= 1;
  }
};

// The loading group: one thread for rows and the ring, one for the columns. Tiles [from, to) of kColumns columns, kFeatures
// features at a time, that of `last` after the others. Each block of the cluster loads its half for both.
template <int kColumns, int kFeatures, class Head>
__device__ void load_tiles(const HopperShared<kColumns, kFeatures, Head>& shared, const HopperSizes& sizes,
                           const std::uint16_t* units, std::int64_t row, const Head* columns, std::int64_t from, std::int64_t to,
                           int last) {
  static_assert(kColumns * kFeatures * 2 == kHopperSlot);
  constexpr int kTileBytes = kSwizzledTile * 2, kEverywhere = (1 << kHopperCluster) - 1;
  const int parts = static_cast<int>(sizes.chunks) * kSwizzledFeatures / kFeatures, rank = cluster_rank();
  if (threadIdx.x == 0) {
    const int bytes = kHopperRows * static_cast<int>(sizes.chunks) * 128;
    arrive_expecting(shared.own_full, bytes);
    copy_bulk(shared.own, units + row * sizes.chunks * kSwizzledFeatures, bytes, shared.own_full);
    Place place;
    for (std::int64_t tile = from; tile < to; ++tile)
      for (int k = 0; k < parts; ++k) {
        const int part = (last + 1 + k) % parts;
        unsigned char* const slot = shared.ring + place.at * kHopperSlot;
        Barrier* const full = shared.full + place.at;
        wait_for(shared.empty + place.at, place.parity ^ 1);
        arrive_expecting(full, kHopperSlot);
        if constexpr (kColumns == 128) {
          for (int c = 0; c < kFeatures / kSwizzledFeatures; ++c)
            copy_bulk_to(kEverywhere, slot + c * 2 * kTileBytes + rank * kTileBytes,
                         units + ((tile * 2 + rank) * sizes.chunks + part * (kFeatures / kSwizzledFeatures) + c) * kSwizzledTile,
                         kTileBytes, full);
        } else {
          constexpr int kHalf = kFeatures / kSwizzledFeatures / 2;
          copy_bulk_to(kEverywhere, slot + rank * kHalf * kTileBytes,
                       units + (tile * sizes.chunks + part * 2 * kHalf + rank * kHalf) * kSwizzledTile, kHalf * kTileBytes, full);
        }
        place.next(shared.slots);
      }
  } else if (threadIdx.x == kWarp) {
    constexpr int kBytes = HopperShared<kColumns, kFeatures, Head>::kHeadBytes;
    Place place;
    for (std::int64_t tile = from; tile < to; ++tile) {
      wait_for(shared.head_empty + place.at, place.parity ^ 1);
      arrive_expecting(shared.head_full + place.at, kBytes);
      copy_bulk(shared.heads + place.at * kBytes, columns + tile * (kColumns / 2), kBytes, shared.head_full + place.at);
      place.next(kHopperHeads);
    }
  }
}

// A warp is done with a slot: the blocks that fill it wait for the warps of all.
__device__ inline void release_slot(Barrier* empty) {
  const int lane = threadIdx.x % kWarp;
  __syncwarp();
  if (lane < kHopperCluster) arrive_at(empty, lane);
}
__device__ inline void release_head(Barrier* empty) {
  __syncwarp();
  if (threadIdx.x % kWarp == 0) arrive(empty);
}

// s (= where fresh, else +=) products of the group's 64 rows with a slot's columns, over the features of part `part`.
template <bool kHalf, int kColumns, int kFeatures>
__device__ inline void multiply_rows(float (&s)[kColumns / 2], const unsigned char* own, const unsigned char* slot, int part,
                                     bool fresh) {
  const std::uint64_t a = descriptor(own + part * (kFeatures / kSwizzledFeatures) * kSwizzledTile * 2, 16, 1024);
  const std::uint64_t b = descriptor(slot, 16, 1024);
#pragma unroll
  for (int k = 0; k < kFeatures / 16; ++k) {
    const int chunk = k / 4, step = k % 4 * 32;
    Wgmma<kHalf, kColumns>::of_rows(s, a + (chunk * kSwizzledTile * 2 + step) / 16, b + (chunk * kColumns * 128 + step) / 16,
                                    fresh && k == 0);
  }
}

#endif

// Slots of the ring that fit beside the rows of a block.
inline int hopper_slots(const HopperSizes& sizes, int head_bytes) {
  const int barriers = (1 + 2 * kHopperMostSlots + 2 * kHopperHeads) * 8;
  const int left = kHopperShared - static_cast<int>(sizes.chunks) * kHopperRows * 128 - kHopperHeads * head_bytes - barriers;
  return left / kHopperSlot < kHopperMostSlots ? left / kHopperSlot : kHopperMostSlots;
}
inline int hopper_shared_bytes(const HopperSizes& sizes, int head_bytes) {
  const int barriers = (1 + 2 * kHopperMostSlots + 2 * kHopperHeads) * 8;
  return static_cast<int>(sizes.chunks) * kHopperRows * 128 + hopper_slots(sizes, head_bytes) * kHopperSlot +
         kHopperHeads * head_bytes + barriers;
}


// A number as the products' type and back, in the lower 16 bits.
template <bool kHalf>
__device__ inline std::uint32_t element_bits(float x) {
  if constexpr (!kHalf) return to_bf16(x);
  std::uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
template <bool kHalf>
__device__ inline float element_value(std::uint32_t bits) {
  if constexpr (!kHalf) return as_float(bits << 16);
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(static_cast<std::uint16_t>(bits)));
  return x;
}

// A prepared row spread over a warp: lane l holds features 64 c + 2 l and one more of chunk c.
struct SpreadRow {
  static constexpr int kChunks = kHopperFeatures / kSwizzledFeatures;
  float at[kChunks][2];
};
template <bool kHalf>
__device__ inline SpreadRow spread_row(const HopperRows& rows, const HopperSizes& sizes, std::int64_t i) {
  SpreadRow out;
#pragma unroll
  for (int c = 0; c < SpreadRow::kChunks; ++c) {
    std::uint32_t two = 0;
    if (c < sizes.chunks)
      two = *reinterpret_cast<const std::uint32_t*>(
          rows.units + swizzled(i, kSwizzledFeatures * c + 2 * (threadIdx.x % kWarp), sizes.chunks));
    out.at[c][0] = element_value<kHalf>(two & 0xffffu);
    out.at[c][1] = element_value<kHalf>(two >> 16);
  }
  return out;
}
// In every lane the product of two.
__device__ inline float dot(const SpreadRow& x, const SpreadRow& y) {
  float sum = 0;
#pragma unroll
  for (int c = 0; c < SpreadRow::kChunks; ++c)
    for (int e = 0; e < 2; ++e) sum += x.at[c][e] * y.at[c][e];
  for (int other = kWarp / 2; other > 0; other /= 2) sum += shuffle_xor(sum, other);
  return sum;
}

}  // namespace clustercl
