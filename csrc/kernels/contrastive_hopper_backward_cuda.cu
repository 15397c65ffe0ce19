// The backward pass of contrastive_hopper.h, but for positives: what pulls each row.
//
//   pull_i = sum_j w_ij u_j,  w_ij = g_i p_ij + g_j p_ji over candidates that the keys leave in
//
// A block: 128 rows and kFeatures features of their pull (all there are, up to 256), in the registers of two groups of warps, a
// third loads columns. Per tile: products as in the forward pass, weights in their place, rounded to the type of the products,
// and their product with the columns' features from the very tiles in shared memory; the products of the next tile run before
// that, so that one of both is under way while weights are computed. Where similarities lie within a narrow range,
//   w_ij = 2^s (a_i + a_j),  a = g 2^-lse (contrastive_hopper_weights_cuda.cu)
// costs one exponential, else two. Rows that are no anchors, and columns, have a = 0. Blocks without an anchor see anchors alone.
// Where rows are split in two parts, weights are too, and a block has 128 features. Matrix instructions cut their sums off instead
// of rounding them, which adds up: a tile's are then made afresh and added by plain additions, and registers do not suffice for
// weights beside them: the other group multiplies while one weighs.
// contrastive_hopper_finish_cuda.cu has what comes then. Deterministic: no atomics, one order of everything.
#include "contrastive_hopper.h"

#if CLUSTERCL_HOPPER
#include "contrastive_hopper_weigher.cuh"
#include "hopper_ring.cuh"

namespace clustercl {
namespace {

// kParts: of kFeatures numbers, of which a block sums up one.
template <HopperType kType, int kColumns, int kFeatures, int kParts>
__global__ void __launch_bounds__(kHopperThreads, 1) CLUSTERCL_CLUSTER(kHopperCluster)
    hopper_backward_kernel(HopperSizes sizes, HopperRows rows, RowWeights weights, const double* temperature, bool normalize,
                           float* pull) {
#if defined(CLUSTERCL_SM90A)
  extern __shared__ __align__(1024) unsigned char hopper_shared[];
  using Layout = HopperLayout<kColumns, kFeatures, kParts, BackwardColumns>;
  constexpr bool kHalf = is_half(kType), kSplit = is_split(kType);
  constexpr int kSummed = kSplit ? kSplitFeatures : kFeatures;  // features
  static_assert(!kSplit || kFeatures == 2 * kSplitFeatures);
  const HopperShared<Layout> shared(hopper_shared);
  shared.begin();
  constexpr std::int64_t kCluster = kHopperRows * kHopperCluster;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kHopperRows, cluster = row / kCluster * kCluster;
  const int columns = static_cast<int>(cluster < sizes.count ? sizes.n : sizes.count), tiles = (columns + kColumns - 1) / kColumns;
  constexpr int kKept = kParts > 1 ? 2 : 0;
  static_assert(kParts <= 2);
  const int part = blockIdx.y;
  if (threadIdx.x < kGroupThreads) {
    keep_registers<kLoadRegisters>();
    load_tiles<kKept>(shared, rows.units, row, rows.units, weights.columns, tiles, part);
  } else {
    want_registers<kSumRegisters>();
    const int group = shuffle(static_cast<int>(threadIdx.x) / kGroupThreads, 0) - 1;
    const int own = static_cast<int>(row) + first_row();
    const unsigned char* const units = shared.own + group * Layout::kChunks * kSwizzledTile * 2;
    const bool narrow = range_of(*temperature, normalize).narrow;
    Weigher weigher;
    for (int h = 0; h < 2; ++h) {
      weigher.scale[h] = static_cast<float>(static_cast<double>(rows.inverse[own + 8 * h]) * (kLog2OfE / *temperature));
      weigher.weight[h] = weights.weight[own + 8 * h];
      weigher.key[h] = rows.key[own + 8 * h];
    }
    float out[kSummed / 2], s[kColumns / 2];
    [[maybe_unused]] float of_tile[kSummed / 2];  // where rows are split
    std::uint32_t w[kColumns / 16][4];
    [[maybe_unused]] std::uint32_t w_rest[kColumns / 16][4];
#pragma unroll
    for (int k = 0; k < kSummed / 2; ++k) out[k] = 0;
    // Slots of the part that is summed up, where others come before it, and those of the others.
    constexpr int kOthers = Layout::kSlots - kKept;
    Place<kOthers> loaded, done;
    Place<(kKept > 0 ? kKept : 1)> loaded_kept, done_kept;
    Place<kHopperHeads> head;
    // Products with a tile, a group of them for each part; returns the slot of the last part, which is `part`.
    const auto begin_tile = [&] {
      int slot = 0;
      const auto begin_part = [&](auto& place, int first, int k) {
        wait_for(shared.full + first + place.at, place.parity);
        begin_products();
        slot = first + place.at;
        const unsigned char *const rows_of_part = units + k * (kFeatures / kSwizzledFeatures) * kSwizzledTile * 2,
                                   *const columns_of_part = shared.ring + slot * kHopperSlot;
        if constexpr (kSplit) {
          constexpr int kTiles = kSplitFeatures / kSwizzledFeatures;
          constexpr int kRest = kTiles * kSwizzledTile * 2, kRestOfColumns = kTiles * kColumns * 128;
          multiply_rows<kHalf, kColumns, kSplitFeatures>(s, rows_of_part + kRest, columns_of_part, k == 0);
          multiply_rows<kHalf, kColumns, kSplitFeatures>(s, rows_of_part, columns_of_part + kRestOfColumns, false);
          multiply_rows<kHalf, kColumns, kSplitFeatures>(s, rows_of_part, columns_of_part, false);
        } else {
          multiply_rows<kHalf, kColumns, kFeatures>(s, rows_of_part, columns_of_part, k == 0);
        }
        commit_products();
        place.next();
      };
#pragma unroll
      for (int k = 0; k < kParts - (kKept > 0); ++k) begin_part(loaded, 0, k);
      if constexpr (kKept > 0) begin_part(loaded_kept, kOthers, kParts - 1);
      return slot;
    };
    const auto release_other = [&] {
      release_slot(shared.empty + done.at);
      done.next();
    };
    const auto release_summed = [&] {
      if constexpr (kKept > 0) {
        release_slot(shared.empty + kOthers + done_kept.at);
        done_kept.next();
      } else {
        release_other();
      }
    };
    const HopperKeys keys(sizes, rows, row + group * kSwizzledRows, kSwizzledRows);
    const auto weigh = [&](int tile, const auto& halfway) {
      wait_for(shared.head_full + head.at, head.parity);
      const auto* columns = reinterpret_cast<const BackwardColumns*>(shared.heads + head.at * Layout::kHeadBytes);
      constexpr int kGroups = kColumns / 8;
      const bool meet = keys.meet<kColumns>(sizes, columns, tile);
      if (!narrow) weigher.template weigh<false, true, 0, kGroups / 2>(s, columns, weights.lse + own);
      else if (meet) weigher.template weigh<true, true, 0, kGroups / 2>(s, columns, weights.lse + own);
      else weigher.template weigh<true, false, 0, kGroups / 2>(s, columns, weights.lse + own);
      halfway();
      if (!narrow) weigher.template weigh<false, true, kGroups / 2, kGroups>(s, columns, weights.lse + own);
      else if (meet) weigher.template weigh<true, true, kGroups / 2, kGroups>(s, columns, weights.lse + own);
      else weigher.template weigh<true, false, kGroups / 2, kGroups>(s, columns, weights.lse + own);
      release_head(shared.head_empty + head.at);
      head.next();
    };
    const auto round = [&] {
#pragma unroll
      for (int k = 0; k < kColumns / 16; ++k)
#pragma unroll
        for (int a = 0; a < 4; ++a) {
          const int at = 8 * k + 4 * (a / 2) + 2 * (a % 2);
          w[k][a] = pack_two<kHalf>(s[at], s[at + 1]);
          if constexpr (kSplit)
            w_rest[k][a] = pack_two<kHalf>(s[at] - element_value<kType>(w[k][a] & 0xffffu),
                                           s[at + 1] - element_value<kType>(w[k][a] >> 16));
        }
    };
    const auto begin_sum = [&](int slot) {
      begin_products();
      const std::uint64_t b = descriptor(shared.ring + slot * kHopperSlot, kColumns * 128, 1024);
      if constexpr (kSplit) {
        constexpr int kRest = kSplitFeatures / kSwizzledFeatures * kColumns * 128;
#pragma unroll
        for (int k = 0; k < kColumns / 16; ++k) Wgmma<kHalf, kSummed>::of_features(of_tile, w_rest[k], b + k * 2048 / 16, k == 0);
#pragma unroll
        for (int k = 0; k < kColumns / 16; ++k)
          Wgmma<kHalf, kSummed>::of_features(of_tile, w[k], b + (kRest + k * 2048) / 16, false);
#pragma unroll
        for (int k = 0; k < kColumns / 16; ++k) Wgmma<kHalf, kSummed>::of_features(of_tile, w[k], b + k * 2048 / 16, false);
      } else {
#pragma unroll
        for (int k = 0; k < kColumns / 16; ++k) Wgmma<kHalf, kSummed>::of_features(out, w[k], b + k * 2048 / 16, false);
      }
      commit_products();
    };
    const auto end_sum = [&] {
      if constexpr (kSplit) {
        after_wait(of_tile);
#pragma unroll
        for (int k = 0; k < kSummed / 2; ++k) out[k] += of_tile[k];
      }
      release_summed();
    };
    wait_for(shared.own_full, 0);
    int slot = begin_tile();
    wait_products<0>();
    if constexpr (kKept > 0) release_other();
    weigh(0, [] {});
    round();
    for (int tile = 1; tile * kColumns < columns; ++tile) {
      if constexpr (kSplit) {
        // Of sums, weights and products in one lane registers hold two: the other group fills the wait of this one.
        begin_sum(slot);
        const int next = begin_tile();
        wait_products<kParts>();
        end_sum();
        if constexpr (kKept > 0) {
          wait_products<1>();
          release_other();
        }
        wait_products<0>();
        weigh(tile, [] {});
        slot = next;
      } else {
        const int next = begin_tile();
        begin_sum(slot);
        if constexpr (kKept > 0) {
          wait_products<2>();
          release_other();
        }
        wait_products<1>();
        // The sums of the last tile end about when half of the weights are there, and free its slot.
        weigh(tile, [&] {
          wait_products<0>();
          end_sum();
        });
        slot = next;
      }
      round();
    }
    begin_sum(slot);
    wait_products<0>();
    end_sum();
    constexpr std::int64_t pitch = kParts * kSummed;
    float* const to_pull = pull + (row + first_row()) * pitch + part * kSummed + 2 * static_cast<int>(threadIdx.x % 4);
#pragma unroll
    for (int c = 0; c < kSummed / 8; ++c)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        *reinterpret_cast<float2*>(to_pull + 8 * h * pitch + 8 * c) = make_float2(out[4 * c + 2 * h], out[4 * c + 2 * h + 1]);
  }
  cluster_sync();  // nobody leaves while others copy or arrive here
#endif
}

struct Work {
  HopperRows rows;
  RowWeights weights;
  float* pull;
  double* along;
};

Work work_in(Parts& parts, const HopperSizes& sizes, std::int32_t* order, bool half) {
  Work out{};
  out.rows = hopper_rows_in(parts, sizes, order, false);
  out.weights.weight = parts.take<float>(sizes.rows);
  out.weights.lse = parts.take<float>(sizes.rows);
  out.weights.columns = parts.take<BackwardColumns>(sizes.rows / 2);
  if (half) out.weights.unit = parts.take<float>(1);
  out.pull = parts.take<float>(sizes.rows * sizes.padded);
  out.along = parts.take<double>(sizes.n);
  return out;
}

template <HopperType kType, int kColumns, int kFeatures, int kParts>
cudaError_t sum_up(const ContrastiveCuda& in, const HopperSizes& sizes, const Work& work, cudaStream_t stream) {
  using Layout = HopperLayout<kColumns, kFeatures, kParts, BackwardColumns>;
  const dim3 grid(static_cast<unsigned>(sizes.rows / kHopperRows), kParts);
  return launch(hopper_backward_kernel<kType, kColumns, kFeatures, kParts>, grid, kHopperThreads, Layout::kBytes, stream, sizes,
                work.rows, work.weights, in.temperature, in.normalize, work.pull);
}

template <HopperType kType>
cudaError_t run(const ContrastiveCuda& in, const HopperSizes& sizes, const Work& work, const float* lse, const float* grad_loss,
                void* grad_rows, double* grad_temperature, cudaStream_t stream) {
  cudaError_t error = weigh_hopper(in, sizes, work.rows, lse, grad_loss, work.weights, stream);
  if (error != cudaSuccess) return error;
  auto sum = sizes.chunks == 4 ? sum_up<kType, 64, 256, 1> : sum_up<kType, 64, 256, 2>;
  if constexpr (!is_split(kType))
    if (sizes.chunks == 2) sum = sum_up<kType, 128, 128, 1>;
  error = sum(in, sizes, work, stream);
  if (error != cudaSuccess) return error;
  return finish_hopper(in, sizes, work.rows, lse, grad_loss, work.weights.unit, work.pull, grad_rows, work.along, grad_temperature,
                       stream);
}

}  // namespace

std::int64_t hopper_backward_workspace(const ContrastiveCuda& in) {
  Parts parts(nullptr);
  work_in(parts, hopper_sizes(in), nullptr, is_half(hopper_type(in)));
  return parts.used();
}

cudaError_t hopper_backward(const ContrastiveCuda& in, void* workspace, const void* lse, const std::int32_t* order,
                            const void* grad_loss, void* grad_rows, double* grad_temperature, cudaStream_t stream) {
  const HopperSizes sizes = hopper_sizes(in);
  const HopperType type = hopper_type(in);
  Parts parts(workspace);
  const Work work = work_in(parts, sizes, const_cast<std::int32_t*>(order), is_half(type));  // without tables it is read alone
  const cudaError_t error = prepare_hopper(in, sizes, work.rows, nullptr, stream);
  if (error != cudaSuccess) return error;
  const auto halves = is_split(type) ? run<HopperType::f16x3> : run<HopperType::f16>;
  const auto call = is_half(type) ? halves : run<HopperType::bf16>;
  return call(in, sizes, work, static_cast<const float*>(lse), static_cast<const float*>(grad_loss), grad_rows, grad_temperature,
              stream);
}

}  // namespace clustercl
#endif
