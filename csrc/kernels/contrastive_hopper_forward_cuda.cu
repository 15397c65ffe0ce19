// The forward pass of contrastive_hopper.h, but for positives that the keys leave out (contrastive_hopper_losses_cuda.cu).
//
// A block: 128 anchors, their rows in shared memory for good; one group of warps loads columns, 128 at a time, two others hold
// the products of 64 anchors each in registers (a lane 2 rows of 32 columns), those of the next tile under way while
// exponentials of the last are summed. Per lane and tile sums are float32, from tile to tile float64. Where similarities lie
// within a narrow range their bound takes the place of the largest candidate; else each lane keeps its largest so far.
#include "contrastive_hopper.h"

#if CLUSTERCL_HOPPER
#include <type_traits>

#include "contrastive_hopper.cuh"
#include "hopper_ring.cuh"

namespace clustercl {
namespace {

constexpr int kColumns = 128, kFeatures = 128;
static_assert(kFeatures == kSplitFeatures);

#if defined(CLUSTERCL_SM90A)

// What a lane has summed up of its two rows: sums of 2^(s - largest).
struct Summed {
  float scale[2], largest[2];
  std::int32_t key[2];
  double sum[2];

  // Adds a tile. kNarrow: largest is a bound and stays. kCompared: columns may be of a row's key, or not there. In steps of
  // 32 columns, what is read for the next under way, for many independent operations: few warps are there to hide what waits.
  template <bool kNarrow, bool kCompared>
  __device__ void add(float (&s)[kColumns / 2], const ForwardColumns* columns) {
    constexpr int kStep = 4;
    const int t = threadIdx.x % 4;
    const auto kept = [&](std::int32_t theirs, int h) { return !kCompared || (theirs != key[h] && theirs != kPadding); };
    float part[2][kStep] = {};
    if constexpr (kNarrow) {
      ForwardColumns next[kStep];
#pragma unroll
      for (int k = 0; k < kStep; ++k) next[k] = columns[4 * k + t];
#pragma unroll
      for (int c = 0; c < kColumns / 8; c += kStep) {
        ForwardColumns two[kStep];
#pragma unroll
        for (int k = 0; k < kStep; ++k) two[k] = next[k];
        if (c + kStep < kColumns / 8)
#pragma unroll
          for (int k = 0; k < kStep; ++k) next[k] = columns[4 * (c + kStep + k) + t];
        float x[4 * kStep];
#pragma unroll
        for (int k = 0; k < 4 * kStep; ++k) x[k] = s[4 * c + k] * two[k / 4].inverse[k % 2];
#pragma unroll
        for (int k = 0; k < 4 * kStep; ++k) x[k] = exp2_approx(fmaf(x[k], scale[k / 2 % 2], -largest[k / 2 % 2]));
#pragma unroll
        for (int k = 0; k < 4 * kStep; ++k)
          if (kept(two[k / 4].key[k % 2], k / 2 % 2)) part[k / 2 % 2][k / 4] += x[k];
      }
    } else {
      float most[2] = {largest[0], largest[1]};
#pragma unroll
      for (int k = 0; k < kColumns / 2; ++k) {
        const ForwardColumns& two = columns[4 * (k / 4) + t];
        const int h = k / 2 % 2;
        s[k] = kept(two.key[k % 2], h) ? s[k] * two.inverse[k % 2] * scale[h] : -INFINITY;
        most[h] = s[k] > most[h] ? s[k] : most[h];
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (!(most[h] > largest[h])) continue;
        sum[h] *= largest[h] == -INFINITY ? 0.0 : exp2(static_cast<double>(largest[h] - most[h]));
        largest[h] = most[h];
      }
#pragma unroll
      for (int k = 0; k < kColumns / 2; ++k)
        if (s[k] != -INFINITY) part[k / 2 % 2][k / 4 % kStep] += exp2_approx(s[k] - largest[k / 2 % 2]);  // not a number stays
    }
    for (int h = 0; h < 2; ++h) sum[h] += static_cast<double>((part[h][0] + part[h][1]) + (part[h][2] + part[h][3]));
  }
};

#endif

// kParts: of kFeatures numbers; where rows are split, first parts and second parts of features in turn.
template <HopperType kType, int kParts>
__global__ void __launch_bounds__(kHopperThreads, 1) CLUSTERCL_CLUSTER(kHopperCluster)
    hopper_forward_kernel(HopperSizes sizes, HopperRows rows, const double* temperature, bool normalize, float* largest,
                          double* sum) {
#if defined(CLUSTERCL_SM90A)
  extern __shared__ __align__(1024) unsigned char hopper_shared[];
  using Layout = HopperLayout<kColumns, kFeatures, kParts, ForwardColumns>;
  const HopperShared<Layout> shared(hopper_shared);
  shared.begin();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kHopperRows;
  const int tiles = static_cast<int>((sizes.n + kColumns - 1) / kColumns);
  if (threadIdx.x < kGroupThreads) {
    keep_registers<kLoadRegisters>();
    load_tiles<0>(shared, rows.units, row, rows.units, rows.columns, tiles, kParts - 1);
  } else {
    want_registers<kSumRegisters>();
    const int group = shuffle(static_cast<int>(threadIdx.x) / kGroupThreads, 0) - 1, lane = threadIdx.x % kWarp;
    const std::int64_t own = row + first_row();
    const unsigned char* const units = shared.own + group * Layout::kChunks * kSwizzledTile * 2;
    const Range range = range_of(*temperature, normalize);
    const HopperKeys keys(sizes, rows, row + group * kSwizzledRows, kSwizzledRows);
    Summed summed;
    for (int h = 0; h < 2; ++h) {
      summed.scale[h] = static_cast<float>(static_cast<double>(rows.inverse[own + 8 * h]) * (kLog2OfE / *temperature));
      summed.key[h] = rows.key[own + 8 * h];
      summed.largest[h] = range.narrow ? range.bound : -INFINITY;
      summed.sum[h] = 0;
    }
    Place<Layout::kSlots> loaded, done;
    Place<kHopperHeads> head;
    const auto begin = [&](float(&s)[kColumns / 2], int part) {
      wait_for(shared.full + loaded.at, loaded.parity);
      const unsigned char* const columns = shared.ring + loaded.at * kHopperSlot;
      const auto multiply = [&](int own, bool fresh) {
        constexpr int kBytes = kFeatures / kSwizzledFeatures * kSwizzledTile * 2;
        multiply_rows<is_half(kType), kColumns, kFeatures>(s, units + own * kBytes, columns, fresh);
      };
      if constexpr (is_split(kType)) {
        if (part % 2 == 0) multiply(part + 1, part == 0);
        multiply(part - part % 2, false);
      } else {
        multiply(part, part == 0);
      }
      loaded.next();
    };
    const auto release = [&] {
      release_slot(shared.empty + done.at);
      done.next();
    };
    const auto take = [&](float(&s)[kColumns / 2], int tile) {
      wait_for(shared.head_full + head.at, head.parity);
      const auto* columns = reinterpret_cast<const ForwardColumns*>(shared.heads + head.at * Layout::kHeadBytes);
      if (!range.narrow) summed.template add<false, true>(s, columns);
      else if (keys.meet<kColumns>(sizes, columns, tile)) summed.template add<true, true>(s, columns);
      else summed.template add<true, false>(s, columns);
      release_head(shared.head_empty + head.at);
      head.next();
    };
    wait_for(shared.own_full, 0);
    if constexpr (kParts <= 2) {
      // The products of the next tile are under way while the last one's are summed.
      float s[kColumns / 2], ahead[kColumns / 2];
      const auto begin_tile = [&](float(&x)[kColumns / 2]) {
        begin_products();
#pragma unroll
        for (int part = 0; part < kParts; ++part) begin(x, part);
        commit_products();
      };
      const auto end_tile = [&](float(&x)[kColumns / 2], int tile) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) release();
        take(x, tile);
      };
      begin_tile(s);
      int tile = 0;
      for (; tile + 2 < tiles; tile += 2) {
        begin_tile(ahead);
        wait_products<1>();
        end_tile(s, tile);
        begin_tile(s);
        wait_products<1>();
        end_tile(ahead, tile + 1);
      }
      if (tile + 1 < tiles) {
        begin_tile(ahead);
        wait_products<1>();
        end_tile(s, tile);
        wait_products<0>();
        end_tile(ahead, tile + 1);
      } else {
        wait_products<0>();
        end_tile(s, tile);
      }
    } else {
      float s[kColumns / 2];
      for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          begin_products();
          begin(s, part);
          commit_products();
          if (part == 0) continue;
          wait_products<1>();
          release();
        }
        wait_products<0>();
        release();
        take(s, tile);
      }
    }
    for (int h = 0; h < 2; ++h) {
      for (int other = 1; other < 4; other *= 2) {
        const float theirs = shuffle_xor(summed.largest[h], other), most = fmaxf(theirs, summed.largest[h]);
        const double their_sum = shuffle_xor(summed.sum[h], other);
        const double mine =
            summed.largest[h] == -INFINITY ? summed.sum[h] : summed.sum[h] * exp2(static_cast<double>(summed.largest[h] - most));
        const double added = theirs == -INFINITY ? their_sum : their_sum * exp2(static_cast<double>(theirs - most));
        summed.sum[h] = (lane & other) == 0 ? mine + added : added + mine;  // the lower lane's first: both have the same bits
        summed.largest[h] = most;
      }
      if (lane % 4 != 0) continue;
      largest[own + 8 * h] = summed.largest[h];
      sum[own + 8 * h] = summed.sum[h];
    }
  }
  cluster_sync();  // nobody leaves while others copy or arrive here
#endif
}

template <HopperType kType>
cudaError_t run(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, float* largest, double* sum,
                cudaStream_t stream) {
  constexpr int kCluster = kHopperRows * kHopperCluster;
  const std::int64_t blocks = (in.count + kCluster - 1) / kCluster * kHopperCluster;
  const auto pass = [&](auto parts) {
    using Layout = HopperLayout<kColumns, kFeatures, decltype(parts)::value, ForwardColumns>;
    return launch(hopper_forward_kernel<kType, decltype(parts)::value>, dim3(static_cast<unsigned>(blocks)), kHopperThreads,
                  Layout::kBytes, stream, sizes, rows, in.temperature, in.normalize, largest, sum);
  };
  cudaError_t error = cudaErrorInvalidValue;
  if (sizes.chunks == 4) error = pass(std::integral_constant<int, 2>{});
  else if (sizes.chunks == 8) error = pass(std::integral_constant<int, 4>{});
  else if constexpr (!is_split(kType)) error = pass(std::integral_constant<int, 1>{});
  return error;
}

struct Work {
  HopperRows rows;
  HopperTables tables;
  float* largest;
  double* sum;
};

Work work_in(Parts& parts, const HopperSizes& sizes, std::int32_t* order) {
  Work out{};
  out.rows = hopper_rows_in(parts, sizes, order, true);
  out.tables = hopper_tables_in(parts, sizes);
  out.largest = parts.take<float>(sizes.rows);
  out.sum = parts.take<double>(sizes.rows);
  return out;
}

}  // namespace

std::int64_t hopper_forward_workspace(const ContrastiveCuda& in) {
  Parts parts(nullptr);
  work_in(parts, hopper_sizes(in), nullptr);
  return parts.used();
}

cudaError_t hopper_forward(const ContrastiveCuda& in, void* workspace, void* loss, void* lse, std::int32_t* order,
                           cudaStream_t stream) {
  const HopperSizes sizes = hopper_sizes(in);
  Parts parts(workspace);
  const Work work = work_in(parts, sizes, order);
  cudaError_t error = prepare_hopper(in, sizes, work.rows, &work.tables, stream);
  if (error != cudaSuccess) return error;
  const HopperType type = hopper_type(in);
  const auto halves = is_split(type) ? run<HopperType::f16x3> : run<HopperType::f16>;
  const auto call = is_half(type) ? halves : run<HopperType::bf16>;
  error = call(in, sizes, work.rows, work.largest, work.sum, stream);
  if (error != cudaSuccess) return error;
  return losses_hopper(in, sizes, work.rows, work.largest, work.sum, static_cast<float*>(loss), static_cast<float*>(lse), stream);
}

}  // namespace clustercl
#endif
