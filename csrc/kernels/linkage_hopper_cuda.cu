// The screen of linkage_hopper.h.
//
// Of the columns of a lane most are farther than its list's last. A tile's products are compared with a threshold in registers,
// what lies below goes into a short queue of the lane in shared memory, and the queues are emptied into the lists together, since
// an insertion is many comparisons, and a warp makes it for all lanes if one wants it. The threshold is the largest of the third nearest of the
// four lanes that share a row: twelve lie at most there, so that nothing beyond is among the nearest twelve.
#include "linkage_hopper.h"

#if CLUSTERCL_HOPPER
#include <type_traits>

#include "hopper_ring.cuh"
#include "linkage_screen.cuh"

namespace clustercl {
namespace {

constexpr int kColumns = kHopperScreenColumns, kFeatures = 128;
static_assert(kHopperScreenRows == kHopperRows * kHopperCluster && kHopperScreenRows % kColumns == 0);
constexpr int kLanesOfRow = 4;
constexpr std::int64_t kScreenSlice = std::int64_t{1} << 45;  // multiply-adds between two questions to the monitor

// Of two columns.
struct alignas(32) ScreenColumns {
  float norm[2], inverse[2];
  std::int32_t id[2], component[2];
};
static_assert(sizeof(ScreenColumns) == kHopperHeadBytes);

struct Queued {
  float square;
  std::int32_t column;  // of the tile
};

// A lane's queue has room for half of its columns of a tile, for each row, and is emptied as often.
constexpr int kDepth = kColumns / kLanesOfRow / 2;
constexpr int kQueueBytes = 2 * kGroupThreads * 2 * kDepth * static_cast<int>(sizeof(Queued));

template <int kParts>
using ScreenLayout = HopperLayout<kColumns, kFeatures, kParts, ScreenColumns, kQueueBytes>;

static_assert(ScreenLayout<2>::kSlots > 1);  // a part is given back only when the next has come

std::int64_t chunks_of(std::int64_t padded) { return padded <= kFeatures ? 2 : 4; }

// Clusters as they are multiplied, a warp each, whole clusters of blocks: zeros and an infinite norm behind. active: all columns,
// else (null) those that look.
__global__ void pack_hopper_kernel(ScanCuda scan, const std::int32_t* active, std::int64_t chunks) {
  const Looking rows = looking(scan, 0);
  if (rows.count == 0) return;
  const std::int32_t* list = active != nullptr ? active : rows.list;
  const std::int64_t there = active != nullptr ? scan.counts->columns : rows.count, padded = scan.clusters.padded;
  auto* const out = static_cast<std::uint16_t*>(active != nullptr ? scan.columns : scan.rows);
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t k = blockIdx.x * kLinkageWarps + threadIdx.x / kWarp;
       k < (there + kHopperScreenRows - 1) / kHopperScreenRows * kHopperScreenRows; k += gridDim.x * kLinkageWarps) {
    const std::int32_t id = k < there ? list[k] : -1;
    const double* from = scan.clusters.rows + id * padded;
    double square = 0;
    for (std::int64_t f = 2 * lane; f < chunks * kSwizzledFeatures; f += 2 * kWarp) {
      std::uint32_t two = 0;
      for (int e = 1; e >= 0; --e) {
        const double x = id >= 0 && f + e < padded ? from[f + e] * scan.unit : 0.0;
        two = two << 16 | to_f16(static_cast<float>(x));
        square = fma(x, x, square);
      }
      *reinterpret_cast<std::uint32_t*>(out + swizzled(k, f, chunks)) = two;
    }
    for (int step = kWarp / 2; step > 0; step /= 2) square += shuffle_xor(square, step);
    if (lane != 0) continue;
    const ScreenRow row = id >= 0 ? screen_row(norm_f16(square, static_cast<double>(padded)), scan.clusters.sizes[id])
                                  : ScreenRow{INFINITY, 1.0f};
    if (active == nullptr) {
      scan.row_norm[k] = row.norm;
      scan.row_inverse[k] = row.inverse;
      continue;
    }
    ScreenColumns& columns = static_cast<ScreenColumns*>(scan.heads)[k / 2];
    columns.norm[k % 2] = row.norm;
    columns.inverse[k % 2] = row.inverse;
    columns.id[k % 2] = id;
    columns.component[k % 2] = scan.clusters.component != nullptr && id >= 0 ? scan.clusters.component[id] : -2;
  }
}

#if defined(CLUSTERCL_SM90A)

constexpr int kShare = kCandidates / kLanesOfRow;
static_assert(kCandidates % kLanesOfRow == 0);

// What a lane knows of its two rows.
struct Lists {
  float norm[2], inverse[2], half[2];  // half: of the threshold
  std::int32_t id[2], component[2];
  NearestFew<float> list[2];
  int queued[2] = {0, 0};
  Queued* queue;  // entry k of row h at (h * kDepth + k) * kWarp

  __device__ void take(const float (&s)[kColumns / 2], const ScreenColumns* columns) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int c = 0; c < kColumns / 8; ++c) {
      const ScreenColumns& two = columns[4 * c + t];
      const float norms[2] = {two.norm[0], two.norm[1]}, inverses[2] = {two.inverse[0], two.inverse[1]};
#pragma unroll
      for (int e = 0; e < 2; ++e)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float square = fmaf(s[4 * c + 2 * h + e], -2.0f, norm[h] + norms[e]);
          if (square < half[h] * (inverse[h] + inverses[e])) {
            queue[(h * kDepth + queued[h]) * kWarp] = {square, 8 * c + 2 * t + e};
            ++queued[h];
          }
        }
      constexpr int kHalf = kColumns / 16;
      if (c % kHalf == kHalf - 1 && __ballot_sync(kAllLanes, queued[0] + queued[1] > 0) != 0) empty(columns);
    }
  }

  __device__ __forceinline__ void empty(const ScreenColumns* columns) {
    const int most = __reduce_max_sync(kAllLanes, static_cast<unsigned>(queued[0] > queued[1] ? queued[0] : queued[1]));
#pragma unroll 1
    for (int k = 0; k < most; ++k)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (k >= queued[h]) continue;
        const Queued one = queue[(h * kDepth + k) * kWarp];
        const ScreenColumns& two = columns[one.column / 2];
        const int e = one.column % 2;
        if (two.id[e] == id[h] || two.component[e] == component[h]) continue;
        list[h].insert((one.square + one.square) / (inverse[h] + two.inverse[e]), two.id[e]);
      }
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      queued[h] = 0;
      float most_of_row = list[h].distance[kShare - 1];
      for (int other = 1; other < kLanesOfRow; other *= 2) most_of_row = fmaxf(most_of_row, shuffle_xor(most_of_row, other));
      half[h] = 0.5f * fminf(most_of_row, list[h].distance[kCandidates - 1]);
    }
  }
};

#endif

// kParts: of kFeatures features. A cluster of blocks: kHopperScreenRows rows and a part of the columns.
template <int kParts>
__global__ void __launch_bounds__(kHopperThreads, 1) CLUSTERCL_CLUSTER(kHopperCluster)
    screen_hopper_kernel(ScanCuda scan, std::int64_t first_task) {
#if defined(CLUSTERCL_SM90A)
  extern __shared__ __align__(1024) unsigned char hopper_shared[];
  using Layout = ScreenLayout<kParts>;
  const Looking looks = looking(scan, 0);
  const std::int64_t wanted = looks.count, columns = scan.counts->columns;
  const std::int64_t tiles = (wanted + kHopperScreenRows - 1) / kHopperScreenRows;
  const std::int64_t parts = hopper_parts(wanted, columns), column_tiles = (columns + kColumns - 1) / kColumns;
  const std::int64_t task = first_task + blockIdx.x / kHopperCluster;
  if (wanted == 0 || task >= tiles * parts) return;  // both blocks of a cluster
  const std::int64_t part = task / tiles, row = task % tiles * kHopperScreenRows + blockIdx.x % kHopperCluster * kHopperRows;
  const std::int64_t begin = column_tiles * part / parts, end = column_tiles * (part + 1) / parts;
  const HopperShared<Layout> shared(hopper_shared);
  shared.begin();
  if (threadIdx.x < kGroupThreads) {
    keep_registers<kLoadRegisters>();
    load_tiles<0>(shared, static_cast<const std::uint16_t*>(scan.rows), row,
                  static_cast<const std::uint16_t*>(scan.columns) + begin * kColumns * Layout::kChunks * kSwizzledFeatures,
                  static_cast<const ScreenColumns*>(scan.heads) + begin * (kColumns / 2), static_cast<int>(end - begin), kParts - 1);
  } else {
    want_registers<kSumRegisters>();
    const int group = shuffle(static_cast<int>(threadIdx.x) / kGroupThreads, 0) - 1, lane = threadIdx.x % kWarp;
    const unsigned char* const units = shared.own + group * Layout::kChunks * kSwizzledTile * 2;
    const std::int64_t own = row + first_row();
    Lists lists;
    lists.queue = reinterpret_cast<Queued*>(shared.reserved) + (threadIdx.x - kGroupThreads) / kWarp * (2 * kDepth * kWarp) + lane;
    for (int h = 0; h < 2; ++h) {
      const std::int64_t r = own + 8 * h;
      lists.norm[h] = scan.row_norm[r];
      lists.inverse[h] = scan.row_inverse[r];
      lists.half[h] = INFINITY;
      lists.id[h] = r < wanted ? looks.list[r] : -1;
      lists.component[h] = scan.clusters.component != nullptr && r < wanted ? scan.clusters.component[lists.id[h]] : -1;
    }
    Place<Layout::kSlots> loaded, done;
    Place<kHopperHeads> head;
    wait_for(shared.own_full, 0);
    float s[kColumns / 2];
    for (std::int64_t tile = begin; tile < end; ++tile) {
#pragma unroll
      for (int k = 0; k < kParts; ++k) {
        wait_for(shared.full + loaded.at, loaded.parity);
        begin_products();
        multiply_rows<true, kColumns, kFeatures>(s, units + k * (kFeatures / kSwizzledFeatures) * kSwizzledTile * 2,
                                                 shared.ring + loaded.at * kHopperSlot, k == 0);
        commit_products();
        loaded.next();
        if (k == 0) continue;
        wait_products<1>();
        release_slot(shared.empty + done.at);
        done.next();
      }
      wait_products<0>();
      after_wait(s);
      release_slot(shared.empty + done.at);
      done.next();
      wait_for(shared.head_full + head.at, head.parity);
      lists.take(s, reinterpret_cast<const ScreenColumns*>(shared.heads + head.at * Layout::kHeadBytes));
      release_head(shared.head_empty + head.at);
      head.next();
    }
    for (int h = 0; h < 2; ++h) {
      const std::int64_t r = own + 8 * h;
      put_together(lists.list[h], kLanesOfRow, [&](int k, float lower, std::int32_t b) {
        if (lane % kLanesOfRow != 0 || r >= wanted) return;
        const std::int64_t at = (part * wanted + r) * kCandidates + k;
        scan.lists.lower[at] = lower;
        scan.lists.id[at] = b;
      });
    }
  }
  cluster_sync();  // nobody leaves while others copy or arrive here
#endif
}

}  // namespace

bool hopper_screens(std::int64_t padded) { return padded <= 2 * kFeatures && has_wgmma(); }

std::int64_t hopper_screen_bytes(std::int64_t padded) { return chunks_of(padded) * kSwizzledFeatures * 2; }

bool hopper_screen(const ScanCuda& scan, const std::int32_t* active, std::int64_t most, const Monitor& monitor, std::int64_t merges,
                   Launches& launches) {
  const std::int64_t chunks = chunks_of(scan.clusters.padded), tiles = (most + kHopperScreenRows - 1) / kHopperScreenRows;
  const std::int64_t warps = blocks_for(tiles * kHopperScreenRows * kWarp, kLinkageThreads, 4096);
  launches.launch(pack_hopper_kernel, warps, kLinkageThreads, 0, scan, active, chunks);
  launches.launch(pack_hopper_kernel, warps, kLinkageThreads, 0, scan, static_cast<const std::int32_t*>(nullptr), chunks);
  const auto pass = [&](auto parts, std::int64_t first, std::int64_t tasks) {
    constexpr int kParts = decltype(parts)::value;
    launches.launch(screen_hopper_kernel<kParts>, tasks * kHopperCluster, kHopperThreads, ScreenLayout<kParts>::kBytes, scan, first);
  };
  // Every tile of rows may look; each task passes over at most all columns.
  const std::int64_t tasks = tiles > kHopperTasks ? tiles : kHopperTasks;
  std::int64_t slice = kScreenSlice / (most * kHopperScreenRows * chunks * kSwizzledFeatures);
  slice = slice < kHopperTasks ? kHopperTasks : slice;
  for (std::int64_t first = 0; first < tasks; first += slice) {
    const std::int64_t count = first + slice < tasks ? slice : tasks - first;
    if (chunks == 2) pass(std::integral_constant<int, 1>{}, first, count);
    else pass(std::integral_constant<int, 2>{}, first, count);
    if (first + count == tasks) break;
    launches.wait();
    if (!monitor(merges)) return false;
  }
  return true;
}

}  // namespace clustercl
#endif
