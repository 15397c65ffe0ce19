// The screens of linkage_scan_cuda.cu: bounds of distances by products on tensor cores, and the nearest of them measured.
//
//   L(a, b) = 2 (N_a + N_b - 2 <c_a, c_b>) / (1/|a| + 1/|b|),  N_a = (1 - kappa) |c_a|^2 - tiny |c_a|,
// lies below every distance as in linkage_screen.h; the kCandidates smallest are measured in float64, and a row whose nearest of them
// does not lie below the last bound stays open for a finer screen.
//   float16          rounds an element by 2^-11 of it, or 2^-25: 2 <c_a, c_b> is off by 4 2^-11 |a||b| and less, and by
//                    2^-24 sqrt(d) (|a| + |b|); kappa = 2^-10 + (2 d + 64) 2^-23, tiny = 2^-23 sqrt(d)
//   3 times TF32     rounding to float32 and splitting leave out less than 2^-20 of |a|^2 + |b|^2; kappa = (4 d + 64) 2^-23
// In both an instruction that adds m products to a sum, all cut to 24 digits of the largest, is off by less than (m + 1) 2^-23
// |a||b|; there are d / 16 of m = 16, or 3 d / 8 of m = 8, and a product counts twice.
// A thread keeps a list for its row and its share of the columns. Deterministic but for the order of `open`.
#include <algorithm>

#include "linkage_hopper.h"
#include "linkage_screen.cuh"
#include "tile.cuh"

namespace clustercl {
namespace {

constexpr int kScreenStride = kTile + 2;  // of the tile of squares in shared memory: no bank is read twice at once
static_assert(kScanRows == kTile);
constexpr std::int64_t kScreenSlice = std::int64_t{1} << 43;  // multiply-adds between two questions to the monitor

template <int kScreen>
struct ScreenOf;
template <>
struct ScreenOf<0> {
  using Type = F16;
  __device__ static double norm(double square, double d) { return norm_f16(square, d); }
  __device__ static void write(double x, std::uint16_t& out) { out = to_f16(static_cast<float>(x)); }
};
template <>
struct ScreenOf<1> {
  using Type = Tf32x3;
  __device__ static double norm(double square, double d) { return (1 - (4 * d + 64) * 0x1p-23) * square; }
  __device__ static void write(double x, float& out) { out = static_cast<float>(x); }
};

template <class E>
std::int64_t screen_width(std::int64_t padded) {
  return (padded + E::kChunk - 1) / E::kChunk * E::kChunk;
}

// Clusters as a screen multiplies them, a warp each, whole tiles: zeros and an infinite norm behind. active: all columns, else
// (null) those that look.
template <int kScreen>
__global__ void pack_kernel(ScanCuda scan, const std::int32_t* active, std::int64_t width) {
  using Element = typename ScreenOf<kScreen>::Type::Element;
  const Looking rows = looking(scan, kScreen);
  if (rows.count == 0) return;
  const std::int32_t* list = active != nullptr ? active : rows.list;
  const std::int64_t there = active != nullptr ? scan.counts->columns : rows.count, padded = scan.clusters.padded;
  auto* const out = static_cast<Element*>(active != nullptr ? scan.columns : scan.rows);
  float* const norm = active != nullptr ? scan.column_norm : scan.row_norm;
  float* const inverse = active != nullptr ? scan.column_inverse : scan.row_inverse;
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t k = blockIdx.x * kLinkageWarps + threadIdx.x / kWarp; k < (there + kTile - 1) / kTile * kTile;
       k += gridDim.x * kLinkageWarps) {
    const double* from = k < there ? scan.clusters.rows + list[k] * padded : nullptr;
    double square = 0;
    for (std::int64_t f = lane; f < width; f += kWarp) {
      const double x = from != nullptr && f < padded ? from[f] * scan.unit : 0.0;
      ScreenOf<kScreen>::write(x, out[k * width + f]);
      square = fma(x, x, square);
    }
    for (int step = kWarp / 2; step > 0; step /= 2) square += shuffle_xor(square, step);
    if (lane != 0) continue;
    const ScreenRow row = from != nullptr ? screen_row(ScreenOf<kScreen>::norm(square, static_cast<double>(padded)),
                                                       scan.clusters.sizes[list[k]])
                                          : ScreenRow{INFINITY, 1.0f};
    norm[k] = row.norm;
    inverse[k] = row.inverse;
  }
}

// Bytes of what is multiplied, or of the tile of squares.
template <class E>
constexpr int kScreenBuffer = std::max<int>(2 * kTile * E::kStride * sizeof(typename E::Element), kTile * kScreenStride * sizeof(float));

template <class E>
std::size_t screen_shared() {
  return kScreenBuffer<E> + kTile * (2 * sizeof(float) + 2 * sizeof(std::int32_t));
}

// Blocks a multiprocessor are named since the assembler, left alone, spills registers to fit one more.
template <int kScreen>
__global__ void __launch_bounds__(kTileThreads, kScreen == 0 ? 4 : 3)
    screen_kernel(ScanCuda scan, const std::int32_t* active, std::int64_t width, std::int64_t first, std::int64_t end) {
  using Screen = typename ScreenOf<kScreen>::Type;
  using Element = typename Screen::Element;
  const Looking rows = looking(scan, kScreen);
  if (rows.count == 0) return;
  const std::int64_t wanted = rows.count, columns = scan.counts->columns;
  Element* const products = shared_memory<Element>();
  float* const buffer = shared_memory<float>();
  float *const norm = buffer + kScreenBuffer<Screen> / sizeof(float), *const inverse = norm + kTile;
  auto* const id = reinterpret_cast<std::int32_t*>(inverse + kTile);
  std::int32_t* const component = id + kTile;
  const std::int64_t tiles = (wanted + kTile - 1) / kTile, column_tiles = (columns + kTile - 1) / kTile;
  const std::int64_t parts = parts_of(tiles, kScanBlocks, column_tiles);
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4, own = threadIdx.x / 2, half = threadIdx.x % 2;
  for (std::int64_t task = first + blockIdx.x; task < end && task < tiles * parts; task += gridDim.x) {
    const std::int64_t tile = task % tiles, part = task / tiles, row = tile * kTile + own;
    const std::int32_t own_id = row < wanted ? rows.list[row] : -1;
    const std::int32_t own_component = scan.clusters.component != nullptr && own_id >= 0 ? scan.clusters.component[own_id] : -1;
    const float own_inverse = scan.row_inverse[row];
    float row_norm[2];
    for (int h = 0; h < 2; ++h) row_norm[h] = scan.row_norm[tile * kTile + threadIdx.x / kWarp * 16 + g + 8 * h];
    NearestFew<float> list;
    for (std::int64_t j = column_tiles * part / parts; j < column_tiles * (part + 1) / parts; ++j) {
      float s[kGroups][4];
      tile_product<Screen>(s, static_cast<const Element*>(scan.rows) + tile * kTile * width,
                           static_cast<const Element*>(scan.columns) + j * kTile * width, width, width, products);
      __syncthreads();
      if (threadIdx.x < kTile) {
        const std::int64_t column = j * kTile + threadIdx.x;
        norm[threadIdx.x] = scan.column_norm[column];
        inverse[threadIdx.x] = scan.column_inverse[column];
        id[threadIdx.x] = column < columns ? active[column] : -1;
        component[threadIdx.x] =
            scan.clusters.component != nullptr && column < columns ? scan.clusters.component[active[column]] : -2;
      }
      __syncthreads();
#pragma unroll
      for (int c = 0; c < kGroups; ++c)
        for (int e = 0; e < 4; ++e) {
          const int column = 8 * c + 2 * t + e % 2;
          buffer[(threadIdx.x / kWarp * 16 + g + 8 * (e / 2)) * kScreenStride + column] =
              fmaf(s[c][e], -2.0f, row_norm[e / 2] + norm[column]);
        }
      __syncthreads();
      for (int k = 0; k < kTile / 2; ++k) {
        const int column = 2 * k + half;
        const float square = buffer[own * kScreenStride + column], weight = own_inverse + inverse[column];
        if (!(square < 0.5f * list.distance[kCandidates - 1] * weight)) continue;
        if (id[column] == own_id || component[column] == own_component || own_id < 0) continue;
        list.insert((square + square) / weight, id[column]);
      }
    }
    put_together(list, 2, [&](int k, float lower, std::int32_t b) {
      if (half != 0 || own_id < 0) return;
      const std::int64_t at = (part * wanted + row) * kCandidates + k;
      scan.lists.lower[at] = lower;
      scan.lists.id[at] = b;
    });
  }
}

// The candidates of a screen in float64, a warp per row.
template <int kScreen>
__global__ void measure_kernel(ScanCuda scan) {
  const Looking rows = looking(scan, kScreen);
  const std::int64_t wanted = rows.count, columns = scan.counts->columns;
  const std::int64_t tiles = (wanted + kTile - 1) / kTile, column_tiles = (columns + kTile - 1) / kTile;
  const std::int64_t parts =
      kScreen == 0 && scan.wgmma ? hopper_parts(wanted, columns) : parts_of(tiles, kScanBlocks, column_tiles);
  const int lane = threadIdx.x % kWarp;
  const ClustersCuda& c = scan.clusters;
  for (std::int64_t r = blockIdx.x * kLinkageWarps + threadIdx.x / kWarp; r < wanted; r += gridDim.x * kLinkageWarps) {
    const std::int32_t a = rows.list[r];
    float lower;
    std::int32_t b;
    const double last = merged_parts(scan.lists.lower, scan.lists.id, r, wanted, parts, lower, b);
    const double square = candidate_squares(c.rows, c.padded, a, b, kCandidates);
    const double far = b >= 0 ? ward(c.sizes[a], c.sizes[b], square) : INFINITY;
    const bool told = tell(c, a, far, b, last / (scan.unit * scan.unit), false);
    if (!told && lane == 0) scan.open[kScreen][atomicAdd(&scan.counts->open[kScreen], 1)] = a;
  }
}

// Does one screen of at most `most` columns; false when stopped.
template <int kScreen>
bool screen(const ScanCuda& scan, const std::int32_t* active, std::int64_t most, const Monitor& monitor, std::int64_t merges,
            Launches& launches) {
  using E = typename ScreenOf<kScreen>::Type;
  if (kScreen == 0 && scan.wgmma) {
    if (!hopper_screen(scan, active, most, monitor, merges, launches)) return false;
    launches.launch(measure_kernel<kScreen>, blocks_for(most * kWarp, kLinkageThreads), kLinkageThreads, 0, scan);
    return true;
  }
  const std::int64_t width = screen_width<E>(scan.clusters.padded), tiles = (most + kTile - 1) / kTile;
  const std::int64_t tile_warps = blocks_for(tiles * kTile * kWarp, kLinkageThreads);
  launches.launch(pack_kernel<kScreen>, tile_warps, kLinkageThreads, 0, scan, active, width);
  launches.launch(pack_kernel<kScreen>, tile_warps, kLinkageThreads, 0, scan, static_cast<const std::int32_t*>(nullptr), width);
  // Every tile of rows may look; each task passes over at most all columns.
  const std::int64_t tasks = tiles > kScanBlocks ? tiles : kScanBlocks;
  std::int64_t slice = kScreenSlice / (most * kTile * width);
  slice = slice < kScanBlocks ? kScanBlocks : slice;
  for (std::int64_t first = 0; first < tasks; first += slice) {
    const std::int64_t end = first + slice < tasks ? first + slice : tasks;
    const std::int64_t blocks = end - first < tiles * tiles ? end - first : tiles * tiles;
    launches.launch(screen_kernel<kScreen>, blocks < kScanBlocks ? blocks : kScanBlocks, kTileThreads, screen_shared<E>(), scan,
                    active, width, first, end);
    if (end == tasks) break;
    launches.wait();
    if (!monitor(merges)) return false;
  }
  launches.launch(measure_kernel<kScreen>, blocks_for(most * kWarp, kLinkageThreads), kLinkageThreads, 0, scan);
  return true;
}

}  // namespace

std::int64_t screen_numbers(std::int64_t padded) { return screen_width<Tf32x3>(padded); }

bool screen_rows(const ScanCuda& scan, const std::int32_t* active, std::int64_t most, const Monitor& monitor, std::int64_t merges,
                 Launches& launches) {
  return !screened(scan, most, most) || (screen<0>(scan, active, most, monitor, merges, launches) &&
                                   screen<1>(scan, active, most, monitor, merges, launches));
}

}  // namespace clustercl
