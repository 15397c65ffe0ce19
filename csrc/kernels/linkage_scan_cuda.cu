// The nearest clusters of some among all, by rows: for ward and single.
//
// Where many look, screens (linkage_screen_cuda.cu) leave few open. Those, and where few look all, are scanned in float64
// (linkage_exact.cuh).
#include <algorithm>

#include "linkage_exact.cuh"
#include "linkage_hopper.h"

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
  exact_scan(scan, active, begin, end);
}

__global__ void exact_tell_kernel(ScanCuda scan) { exact_tell(scan); }

// Columns from which screens are used: many where float64 is half as fast as float32, few where it is far slower. The host
// executor has small numbers to go both ways.
std::int64_t screens_from() {
#if defined(CLUSTERCL_SIMT)
  return 128;
#else
  constexpr std::int64_t kMany = 2048, kFew = 128;
  int device = 0, ratio = 0;
  const bool told = cudaGetDevice(&device) == cudaSuccess &&
                    cudaDeviceGetAttribute(&ratio, cudaDevAttrSingleToDoublePrecisionPerfRatio, device) == cudaSuccess;
  return told && ratio <= 4 ? kMany : kFew;
#endif
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
  scan.screen_columns = screens_from();
  scan.wgmma = hopper_screens(clusters.padded);
  const std::int64_t whole = scan.wgmma ? kHopperScreenRows : kScanRows;
  const std::int64_t rows = (clusters.n + whole - 1) / whole * whole;
  const std::int64_t bytes = std::max<std::int64_t>(sizeof(float) * screen_numbers(clusters.padded),
                                                    scan.wgmma ? hopper_screen_bytes(clusters.padded) : 0);
  for (void** side : {&scan.columns, &scan.rows}) *side = parts.take<unsigned char>(rows * bytes);
  if (scan.wgmma) scan.heads = parts.take<unsigned char>(rows / 2 * kHopperHeadBytes);
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
