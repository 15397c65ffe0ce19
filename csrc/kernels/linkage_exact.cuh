// Scans of the linkage in float64, by tiles (distances.cuh): a thread keeps a list for its row and its share of the columns, lists
// are put together at the end of a part, and the parts by a warp per row. Each step for all threads of a launch. Deterministic.
#pragma once

#include "linkage_cuda.cuh"

namespace clustercl {

// The tasks [begin, end), of kDistanceThreads threads each with sizeof(double) * kDistanceShared bytes of shared memory.
__device__ inline void exact_scan(const ScanCuda& scan, const std::int32_t* active, std::int64_t begin, std::int64_t end) {
  const Looking rows = looking(scan, kScreens);
  if (rows.count == 0) return;
  const std::int64_t columns = scan.counts->columns;
  const ClustersCuda& c = scan.clusters;
  double* const shared = shared_memory<double>();
  const std::int64_t tiles = (rows.count + kDistanceTile - 1) / kDistanceTile;
  const std::int64_t column_tiles = (columns + kDistanceTile - 1) / kDistanceTile, parts = parts_of(tiles, kScanBlocks, column_tiles);
  const int own = threadIdx.x / 8, eighth = threadIdx.x % 8;
  for (std::int64_t task = begin + blockIdx.x; task < end && task < tiles * parts; task += gridDim.x) {
    const std::int64_t first = task % tiles * kDistanceTile, part = task / tiles, row = first + own;
    const std::int32_t a = row < rows.count ? rows.list[row] : -1;
    const std::int32_t own_component = c.component != nullptr && a >= 0 ? c.component[a] : -1;
    NearestFew<double> list;
    for (std::int64_t j = column_tiles * part / parts; j < column_tiles * (part + 1) / parts; ++j) {
      const std::int64_t from = j * kDistanceTile;
      double square[2][2];
      square_tile(
          square, [&](int k) { return first + k < rows.count ? c.rows + rows.list[first + k] * c.padded : nullptr; },
          [&](int k) { return from + k < columns ? c.rows + active[from + k] * c.padded : nullptr; }, c.padded, shared);
      __syncthreads();
      for (int k = 0; k < 4; ++k)
        shared[(threadIdx.x / kDistanceSide + kDistanceSide * (k / 2)) * kDistanceStride + threadIdx.x % kDistanceSide +
               kDistanceSide * (k % 2)] = square[k / 2][k % 2];
      __syncthreads();
      for (int k = eighth; k < kDistanceTile && a >= 0; k += 8) {
        const std::int32_t b = from + k < columns ? active[from + k] : a;
        if (b == a || (c.component != nullptr && c.component[b] == own_component)) continue;
        list.insert(ward(c.sizes[a], c.sizes[b], shared[own * kDistanceStride + k]), b);
      }
    }
    put_together(list, 8, [&](int k, double distance, std::int32_t b) {
      if (eighth != 0 || a < 0) return;
      const std::int64_t at = (part * rows.count + row) * kCandidates + k;
      scan.lists.distance[at] = distance;
      scan.lists.id[at] = b;
    });
  }
}

__device__ inline void exact_tell(const ScanCuda& scan) {
  const Looking rows = looking(scan, kScreens);
  const std::int64_t columns = scan.counts->columns;
  const std::int64_t parts =
      parts_of((rows.count + kDistanceTile - 1) / kDistanceTile, kScanBlocks, (columns + kDistanceTile - 1) / kDistanceTile);
  for (std::int64_t r = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp; r < rows.count;
       r += static_cast<std::int64_t>(gridDim.x) * blockDim.x / kWarp)
    tell_parts(scan, rows.list[r], r, rows.count, parts);
}

}  // namespace clustercl
