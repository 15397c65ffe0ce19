// The ring of tiles that one group of warps fills and two others multiply, in the blocks of contrastive_hopper.h and of the
// linkage's screen (linkage_hopper_cuda.cu).
//
// A block of three groups holds its own rows in shared memory for good. The first loads columns, slot by slot, each block of
// a cluster half of what both want; the others wait for a slot, multiply, and give it back to the blocks that fill it.
#pragma once

#include "hopper.cuh"

namespace clustercl {

constexpr int kHopperThreads = 3 * kGroupThreads;  // one group loads
// Registers of a thread: a block is launched with as many for each; what the loading group gives back, the two others share.
// More than that is waited for for ever (seen on an H100).
constexpr int kLaunchRegisters = 65536 / kHopperThreads / 8 * 8, kLoadRegisters = 40, kSumRegisters = 232;
static_assert(kLoadRegisters + 2 * kSumRegisters <= 3 * kLaunchRegisters);
constexpr int kHopperSlot = 32 * 1024;  // bytes of a slot of the ring
constexpr int kHopperMostSlots = 6;
constexpr int kHopperHeads = 2;
constexpr int kHopperShared = 227 * 1024;  // of a multiprocessor, for one block

// The shared memory of a block: its own rows, the ring, columns, barriers, kReserved bytes for its summing groups. kFeatures of
// kParts parts and kColumns columns are multiplied at a time.
template <int kColumns, int kFeatures, int kParts, class Head, int kReserved = 0>
struct HopperLayout {
  static constexpr int kChunks = kParts * kFeatures / kSwizzledFeatures;
  static constexpr int kHeadBytes = kColumns / 2 * static_cast<int>(sizeof(Head));
  static constexpr int kOwnBytes = kHopperRows * kChunks * kSwizzledFeatures * 2;
  static constexpr int kBarrierBytes = (1 + 2 * kHopperMostSlots + 2 * kHopperHeads + 1) / 2 * 2 * 8;
  static constexpr int kOtherBytes = kHopperHeads * kHeadBytes + kBarrierBytes + kReserved;
  static constexpr int kFit = (kHopperShared - kOwnBytes - kOtherBytes) / kHopperSlot;
  static constexpr int kSlots = kFit < kHopperMostSlots ? kFit : kHopperMostSlots;
  static constexpr int kBytes = kOwnBytes + kSlots * kHopperSlot + kOtherBytes;
  static_assert(kColumns * kFeatures * 2 == kHopperSlot);
  static_assert(kSlots > 0 && kBytes <= kHopperShared);
};

#if defined(CLUSTERCL_SM90A)

template <class Layout>
struct HopperShared {
  unsigned char *own, *ring, *heads, *reserved;  // own: the rows of the block
  Barrier *own_full, *full, *empty, *head_full, *head_empty;

  __device__ explicit HopperShared(unsigned char* begin)
      : own(begin), ring(own + Layout::kOwnBytes), heads(ring + Layout::kSlots * kHopperSlot) {
    own_full = reinterpret_cast<Barrier*>(heads + kHopperHeads * Layout::kHeadBytes);
    full = own_full + 1;
    empty = full + kHopperMostSlots;
    head_full = empty + kHopperMostSlots;
    head_empty = head_full + kHopperHeads;
    reserved = heads + kHopperHeads * Layout::kHeadBytes + Layout::kBarrierBytes;
  }
  __device__ void begin() const {
    constexpr int kWarps = 2 * kGroupThreads / kWarp;
    if (threadIdx.x == 0) {
      begin_barrier(own_full, 1);
      for (int k = 0; k < Layout::kSlots; ++k) {
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
template <int kSlots>
struct Place {
  int at = 0, parity = 0;
  __device__ void next() {
    if constexpr (kSlots > 1) {
      if (++at < kSlots) return;
      at = 0;
    }
    parity ^= 1;
  }
};

// The loading group: one thread for rows and the ring, one for the columns. The tiles [0, tiles), part `last` after the others;
// that one has the last kKept slots to itself, since whoever needs it for longer must not hold up the others. Each block of the
// cluster loads its half for both. rows: of which those from `row` are the block's.
template <int kKept, int kColumns, int kFeatures, int kParts, class Head, int kReserved>
__device__ void load_tiles(const HopperShared<HopperLayout<kColumns, kFeatures, kParts, Head, kReserved>>& shared,
                           const std::uint16_t* rows, std::int64_t row, const std::uint16_t* units, const Head* columns, int tiles,
                           int last) {
  using Layout = HopperLayout<kColumns, kFeatures, kParts, Head, kReserved>;
  constexpr int kTileBytes = kSwizzledTile * 2, kEverywhere = (1 << kHopperCluster) - 1;
  constexpr int kChunks = kFeatures / kSwizzledFeatures;  // of a part
  const int rank = cluster_rank();
  if (threadIdx.x == 0) {
    // The block's own rows, parts in the order in which they are multiplied.
    arrive_expecting(shared.own_full, Layout::kOwnBytes);
    for (int half = 0; half < 2; ++half)
      for (int k = 0; k < kParts; ++k)
        copy_bulk(shared.own + (half * kParts + k) * kChunks * kTileBytes,
                  rows + ((row / kSwizzledRows + half) * Layout::kChunks + (last + 1 + k) % kParts * kChunks) * kSwizzledTile,
                  kChunks * kTileBytes, shared.own_full);
    const auto load = [&](auto& place, int first, std::int64_t tile, int part) {
      unsigned char* const slot = shared.ring + (first + place.at) * kHopperSlot;
      Barrier* const full = shared.full + first + place.at;
      wait_for(shared.empty + first + place.at, place.parity ^ 1);
      arrive_expecting(full, kHopperSlot);
      if constexpr (kColumns == 128) {
        for (int c = 0; c < kChunks; ++c)
          copy_bulk_to(kEverywhere, slot + (c * 2 + rank) * kTileBytes,
                       units + ((tile * 2 + rank) * Layout::kChunks + part * kChunks + c) * kSwizzledTile, kTileBytes, full);
      } else {
        constexpr int kHalf = kChunks / 2;
        copy_bulk_to(kEverywhere, slot + rank * kHalf * kTileBytes,
                     units + (tile * Layout::kChunks + part * kChunks + rank * kHalf) * kSwizzledTile, kHalf * kTileBytes, full);
      }
      place.next();
    };
    Place<Layout::kSlots - kKept> others;
    Place<(kKept > 0 ? kKept : 1)> kept;
    for (int tile = 0; tile < tiles; ++tile) {
      for (int k = 0; k < kParts - (kKept > 0); ++k) load(others, 0, tile, (last + 1 + k) % kParts);
      if constexpr (kKept > 0) load(kept, Layout::kSlots - kKept, tile, last);
    }
  } else if (threadIdx.x == kWarp) {
    constexpr int kBytes = Layout::kHeadBytes;
    Place<kHopperHeads> place;
    for (int tile = 0; tile < tiles; ++tile) {
      wait_for(shared.head_empty + place.at, place.parity ^ 1);
      arrive_expecting(shared.head_full + place.at, kBytes);
      copy_bulk(shared.heads + place.at * kBytes, columns + std::int64_t{tile} * (kColumns / 2), kBytes,
                shared.head_full + place.at);
      place.next();
    }
  }
  __syncwarp();  // the barrier of the cluster wants whole warps
}

// The first of the two rows of a lane of the summing groups, within its block; the second is 8 further on.
__device__ inline int first_row() {
  const int thread = static_cast<int>(threadIdx.x) - kGroupThreads;
  return thread / kGroupThreads * kSwizzledRows + thread % kGroupThreads / kWarp * 16 + thread % kWarp / 4;
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

// s (= where fresh, else +=) products of 64 rows of the block with columns of a slot, over the first kFeatures of both.
template <bool kHalf, int kColumns, int kFeatures>
__device__ inline void multiply_rows(float (&s)[kColumns / 2], const unsigned char* own, const unsigned char* columns, bool fresh) {
  std::uint64_t a = descriptor(own, 16, 1024);
  asm volatile("" : "+l"(a));  // or the compiler keeps the descriptors of all steps, for which registers do not suffice
  std::uint64_t b = descriptor(columns, 16, 1024);
  asm volatile("" : "+l"(b));
#pragma unroll
  for (int k = 0; k < kFeatures / 16; ++k) {
    const int chunk = k / 4, step = k % 4 * 32;
    Wgmma<kHalf, kColumns>::of_rows(s, a + (chunk * kSwizzledTile * 2 + step) / 16, b + (chunk * kColumns * 128 + step) / 16,
                                    fresh && k == 0);
  }
}

#endif

}  // namespace clustercl
