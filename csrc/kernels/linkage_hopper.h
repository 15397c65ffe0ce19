// The first screen of the linkage (linkage_screen_cuda.cu: products in float16 that bound distances from below) with the matrix
// instructions of compute capability 9.0, for up to 256 features. The same lists but for the order of equal bounds.
//
//   a block of 128 clusters that look passes over a part of the columns, 128 at a time; a lane holds 2 rows of 32 of them, and
//   the nearest of its own columns for each
// Memory: a row is 128 or 256 numbers of 16 bits, and 16 bytes. Numerics: linkage_screen_cuda.cu's of float16. Deterministic.
// Source: linkage_screen_cuda.cu; the ring is contrastive_hopper.h's. Proven on a GPU alone: the host executor has neither wgmma nor bulk copies.
#pragma once

#include "hopper.h"
#include "linkage_cuda.cuh"

namespace clustercl {

constexpr std::int64_t kHopperScreenRows = 256;  // of a cluster of blocks: rows and columns come in whole ones
constexpr std::int64_t kHopperScreenColumns = 128;  // of a tile
constexpr std::int64_t kHopperTasks = 264;       // clusters of blocks, with which a scan of few rows fills a card
constexpr std::int64_t kHopperHeadBytes = 32;    // of two columns

// Parts of the columns that rows are scanned in.
__host__ __device__ inline std::int64_t hopper_parts(std::int64_t rows, std::int64_t columns) {
  return parts_of((rows + kHopperScreenRows - 1) / kHopperScreenRows, kHopperTasks,
                  (columns + kHopperScreenColumns - 1) / kHopperScreenColumns);
}

#if CLUSTERCL_HOPPER
// Whether the present device has it, and rows are not too long.
bool hopper_screens(std::int64_t padded);
std::int64_t hopper_screen_bytes(std::int64_t padded);  // of a row
// Fills scan.lists; false when stopped.
bool hopper_screen(const ScanCuda& scan, const std::int32_t* active, std::int64_t most, const Monitor& monitor, std::int64_t merges,
                   Launches& launches);
#else
inline bool hopper_screens(std::int64_t) { return false; }
inline std::int64_t hopper_screen_bytes(std::int64_t) { return 0; }
inline bool hopper_screen(const ScanCuda&, const std::int32_t*, std::int64_t, const Monitor&, std::int64_t, Launches&) { return false; }
#endif

}  // namespace clustercl
