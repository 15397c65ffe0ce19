// The nearest clusters of some among all, by rows: for ward and single.
//
// Where many look, screens (linkage_screen_cuda.cu) leave few open. Those, and where few look all, take distances in float64 by
// tiles (distances.cuh): a thread keeps a list for its row and its share of the columns, lists are put together at the end of a part,
// and the parts by a warp per row. Deterministic.
#include "linkage_cuda.cuh"

namespace clustercl {
namespace {

__global__ void begin_kernel(ClustersCuda c) {
  for (std::int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < c.n; i += gridDim.x * blockDim.x) {
    forget(c, i, 0.0);
    c.sizes[i] = 1.0;
    if (c.component != nullptr) c.component[i] = static_cast<std::int32_t>(i);
  }
}

constexpr std::int64_t kExactSlice = std::int64_t{1} << 41;  // multiply-adds between two questions to the monitor

__global__ void __launch_bounds__(kDistanceThreads)
    exact_kernel(ScanCuda scan, const std::int32_t* active, std::int64_t begin, std::int64_t end) {
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

__global__ void exact_tell_kernel(ScanCuda scan) {
  const Looking rows = looking(scan, kScreens);
  const std::int64_t columns = scan.counts->columns;
  const std::int64_t parts =
      parts_of((rows.count + kDistanceTile - 1) / kDistanceTile, kScanBlocks, (columns + kDistanceTile - 1) / kDistanceTile);
  for (std::int64_t r = blockIdx.x * kLinkageWarps + threadIdx.x / kWarp; r < rows.count; r += gridDim.x * kLinkageWarps)
    tell_parts(scan, rows.list[r], r, rows.count, parts);
}

}  // namespace

ClustersCuda clusters_in(Parts& parts, std::int64_t n, std::int64_t padded, double* rows, bool components) {
  ClustersCuda c{};
  c.n = n;
  c.padded = padded;
  c.rows = rows;
  c.sizes = parts.take<double>(n);
  c.distance = parts.take<double>(n);
  c.bound = parts.take<double>(n);
  c.id = parts.take<std::int32_t>(n);
  c.far = parts.take<double>(n * kCandidates);
  c.beyond = parts.take<double>(n);
  c.listed = parts.take<std::int32_t>(n * kCandidates);
  c.count = parts.take<std::int32_t>(n);
  c.component = components ? parts.take<std::int32_t>(n) : nullptr;
  return c;
}

ScanCuda scan_in(Parts& parts, const ClustersCuda& clusters, bool with_screen) {
  ScanCuda scan{};
  scan.clusters = clusters;
  scan.counts = parts.take<ScanCounts>(1);
  scan.wanted = parts.take<std::int32_t>(clusters.n);
  for (std::int32_t*& list : scan.open) list = parts.take<std::int32_t>(clusters.n);
  const std::int64_t slots = scan_slots(clusters.n) * kCandidates;
  scan.lists.distance = parts.take<double>(slots);
  scan.lists.id = parts.take<std::int32_t>(slots);
  scan.lists.lower = reinterpret_cast<float*>(scan.lists.distance);  // never both
  scan.unit = 1;
  if (!with_screen) return scan;
  const std::int64_t rows = (clusters.n + kScanRows - 1) / kScanRows * kScanRows;
  for (void** side : {&scan.columns, &scan.rows}) *side = parts.take<float>(rows * screen_numbers(clusters.padded));
  for (float** side : {&scan.column_norm, &scan.column_inverse, &scan.row_norm, &scan.row_inverse}) *side = parts.take<float>(rows);
  return scan;
}

void begin_clusters(const ClustersCuda& clusters, Launches& launches) {
  launches.launch(begin_kernel, blocks_for(clusters.n, kLinkageThreads), kLinkageThreads, 0, clusters);
}

bool scan_rows(const ScanCuda& scan, const std::int32_t* active, std::int64_t most, const Monitor& monitor, std::int64_t merges,
               Launches& launches) {
  if (!screen_rows(scan, active, most, monitor, merges, launches)) return false;
  // Every tile of rows may look, at most at all columns.
  const std::int64_t tiles = (most + kDistanceTile - 1) / kDistanceTile, tasks = tiles > kScanBlocks ? tiles : kScanBlocks;
  std::int64_t slice = kExactSlice / (most * kDistanceTile * scan.clusters.padded);
  slice = slice < kScanBlocks ? kScanBlocks : slice;
  for (std::int64_t begin = 0; begin < tasks; begin += slice) {
    const std::int64_t end = begin + slice < tasks ? begin + slice : tasks;
    launches.launch(exact_kernel, tiles * tiles < kScanBlocks ? tiles * tiles : kScanBlocks, kDistanceThreads,
                    sizeof(double) * kDistanceShared, scan, active, begin, end);
    if (end == tasks) break;
    launches.wait();
    if (!monitor(merges)) return false;
  }
  launches.launch(exact_tell_kernel, blocks_for(most * kWarp, kLinkageThreads), kLinkageThreads, 0, scan);
  return true;
}

}  // namespace clustercl
