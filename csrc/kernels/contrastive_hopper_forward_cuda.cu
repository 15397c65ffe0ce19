// The forward pass of contrastive_hopper.h.
//
// A block: 128 anchors, their rows in shared memory for good; one group of warps loads columns, 128 at a time, two others hold
// the products of 64 anchors each in registers (a lane 2 rows of 32 columns), those of the next tile under way while
// exponentials of the last are summed. Per lane and tile sums are float32, from tile to tile float64. Where similarities lie
// within a narrow range their bound takes the place of the largest candidate; else each lane keeps its largest so far.
#include "contrastive_hopper.h"

#if CLUSTERCL_HOPPER
#include <type_traits>

#include "contrastive_hopper.cuh"

namespace clustercl {
namespace {

constexpr int kColumns = 128, kFeatures = 128;

#if defined(CLUSTERCL_SM90A)

// What a lane has summed up of its two rows: sums of 2^(s - largest).
struct Summed {
  float scale[2], largest[2];
  std::int32_t key[2];
  double sum[2];

  // Adds a tile. kNarrow: largest is a bound and stays. kRagged: some columns are not there.
  template <bool kNarrow, bool kRagged>
  __device__ void add(float (&s)[kColumns / 2], const ForwardColumns* columns) {
    const int t = threadIdx.x % 4;
    float part[2][2] = {};
    float most[2] = {largest[0], largest[1]};
#pragma unroll
    for (int c = 0; c < kColumns / 8; ++c) {
      const ForwardColumns two = columns[4 * c + t];
#pragma unroll
      for (int e = 0; e < 2; ++e)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& x = s[4 * c + 2 * h + e];
          const bool kept = two.key[e] != key[h] && (!kRagged || two.key[e] != kPadding);
          if constexpr (kNarrow) {
            const float term = exp2_approx(fmaf(x * two.inverse[e], scale[h], -largest[h]));
            if (kept) part[h][e] += term;
          } else {
            x = kept ? x * two.inverse[e] * scale[h] : -INFINITY;
            most[h] = x > most[h] ? x : most[h];
          }
        }
    }
    if constexpr (!kNarrow) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (most[h] > largest[h]) {
          sum[h] *= largest[h] == -INFINITY ? 0.0 : exp2(static_cast<double>(largest[h] - most[h]));
          largest[h] = most[h];
        }
      }
#pragma unroll
      for (int c = 0; c < kColumns / 8; ++c)
#pragma unroll
        for (int e = 0; e < 2; ++e)
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const float x = s[4 * c + 2 * h + e];
            if (x != -INFINITY) part[h][e] += exp2_approx(x - largest[h]);  // not a number stays what it is
          }
    }
    for (int h = 0; h < 2; ++h) sum[h] += static_cast<double>(part[h][0] + part[h][1]);
  }
};

#endif

// kParts: of kFeatures features.
template <bool kHalf, int kParts>
__global__ void __launch_bounds__(kHopperThreads, 1) __cluster_dims__(kHopperCluster, 1, 1)
    hopper_forward_kernel(HopperSizes sizes, HopperRows rows, const double* temperature, bool normalize, int slots, float* largest,
                          double* sum) {
#if defined(CLUSTERCL_SM90A)
  extern __shared__ __align__(1024) unsigned char hopper_shared[];
  const HopperShared<kColumns, kFeatures, ForwardColumns> shared(hopper_shared, sizes.chunks, slots);
  shared.begin();
  constexpr int kCluster = kHopperRows * kHopperCluster;
  const std::int64_t row = sizes.first / kCluster * kCluster + static_cast<std::int64_t>(blockIdx.x) * kHopperRows;
  const std::int64_t tiles = (sizes.n + kColumns - 1) / kColumns;
  if (threadIdx.x < kGroupThreads) {
    keep_registers<40>();
    load_tiles(shared, sizes, rows.units, row, rows.columns, 0, tiles, kParts - 1);
  } else {
    want_registers<232>();
    const int group = threadIdx.x / kGroupThreads - 1, lane = threadIdx.x % kWarp;
    const std::int64_t own = row + group * kSwizzledRows + threadIdx.x % kGroupThreads / kWarp * 16 + lane / 4;
    const unsigned char* const units = shared.own + group * sizes.chunks * kSwizzledTile * 2;
    const Range range = range_of(*temperature, normalize);
    Summed summed;
    for (int h = 0; h < 2; ++h) {
      summed.scale[h] = static_cast<float>(static_cast<double>(rows.inverse[own + 8 * h]) * (kLog2OfE / *temperature));
      summed.key[h] = rows.key[own + 8 * h];
      summed.largest[h] = range.narrow ? range.bound : -INFINITY;
      summed.sum[h] = 0;
    }
    Place loaded, done, head;
    const auto begin = [&](float(&s)[kColumns / 2], int part) {
      wait_for(shared.full + loaded.at, loaded.parity);
      multiply_rows<kHalf, kColumns, kFeatures>(s, units, shared.ring + loaded.at * kHopperSlot, part, part == 0);
      loaded.next(shared.slots);
    };
    const auto release = [&] {
      release_slot(shared.empty + done.at);
      done.next(shared.slots);
    };
    const auto take = [&](float(&s)[kColumns / 2], auto last) {
      wait_for(shared.head_full + head.at, head.parity);
      const auto* columns = reinterpret_cast<const ForwardColumns*>(shared.heads + head.at * shared.kHeadBytes);
      if (range.narrow) summed.template add<true, decltype(last)::value>(s, columns);
      else summed.template add<false, decltype(last)::value>(s, columns);
      release_head(shared.head_empty + head.at);
      head.next(kHopperHeads);
    };
    constexpr std::false_type inner;
    constexpr std::true_type last;  // tile, of which columns may be missing
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
      const auto end_tile = [&](float(&x)[kColumns / 2], auto last) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) release();
        take(x, last);
      };
      begin_tile(s);
      std::int64_t tile = 0;
      for (; tile + 2 < tiles; tile += 2) {
        begin_tile(ahead);
        wait_products<1>();
        end_tile(s, inner);
        begin_tile(s);
        wait_products<1>();
        end_tile(ahead, inner);
      }
      if (tile + 1 < tiles) {
        begin_tile(ahead);
        wait_products<1>();
        end_tile(s, inner);
        wait_products<0>();
        end_tile(ahead, last);
      } else {
        wait_products<0>();
        end_tile(s, last);
      }
    } else {
      float s[kColumns / 2];
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
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
        if (tile + 1 < tiles) take(s, inner);
        else take(s, last);
      }
    }
    for (int h = 0; h < 2; ++h) {
      for (int other = 1; other < 4; other *= 2) {
        const float theirs = shuffle_xor(summed.largest[h], other), most = fmaxf(theirs, summed.largest[h]);
        const double their_sum = shuffle_xor(summed.sum[h], other);
        const double mine = summed.largest[h] == -INFINITY ? 0.0 : summed.sum[h] * exp2(static_cast<double>(summed.largest[h] - most));
        const double added = theirs == -INFINITY ? 0.0 : their_sum * exp2(static_cast<double>(theirs - most));
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

// A warp per anchor: adds the positives among the candidates that its key left out.
template <bool kHalf>
__global__ void __launch_bounds__(kGroupThreads)
    hopper_losses_kernel(HopperSizes sizes, HopperRows rows, const double* temperature, const float* largest, const double* sum,
                         float* loss, float* lse) {
  constexpr int kWarps = kGroupThreads / kWarp;
  const double scale = kLog2OfE / *temperature;
  for (std::int64_t k = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; k < sizes.count;
       k += static_cast<std::int64_t>(gridDim.x) * kWarps) {
    const std::int64_t i = sizes.first + k;
    const SpreadRow own = spread_row<kHalf>(rows, sizes, i);
    double most = sum[i] > 0 ? static_cast<double>(largest[i]) + log2(sum[i]) : -INFINITY;
    double total = sum[i] > 0 ? 1.0 : sum[i];  // not a number stays what it is
    double near = 0;
    std::int64_t positives = 0;
    for (std::int64_t j = rows.next[i]; j != i; j = rows.next[j]) {
      const double x = static_cast<double>(dot(own, spread_row<kHalf>(rows, sizes, j)) * rows.inverse[i] * rows.inverse[j]) * scale;
      near += x;
      ++positives;
      if (rows.key[i] != rows.key[j]) continue;  // it was a candidate like any other
      if (x > most) {
        total = (most == -INFINITY ? total : total * exp2(most - x)) + 1.0;
        most = x;
      } else {
        total += exp2(x - most);
      }
    }
    if (threadIdx.x % kWarp != 0) continue;
    const double log_sum = (most + log2(total)) / kLog2OfE;
    lse[k] = static_cast<float>(log_sum);
    loss[k] = static_cast<float>(log_sum - near / (kLog2OfE * static_cast<double>(positives)));
  }
}

template <bool kHalf>
cudaError_t run(const ContrastiveCuda& in, const HopperSizes& sizes, const HopperRows& rows, float* largest, double* sum, float* loss,
                float* lse, cudaStream_t stream) {
  constexpr int kHeadBytes = kColumns / 2 * sizeof(ForwardColumns), kCluster = kHopperRows * kHopperCluster;
  const std::int64_t begin = in.first / kCluster * kCluster;
  const std::int64_t blocks = (in.first + in.count - begin + kCluster - 1) / kCluster * kHopperCluster;
  const int slots = hopper_slots(sizes, kHeadBytes), shared = hopper_shared_bytes(sizes, kHeadBytes);
  const auto parts = sizes.chunks * kSwizzledFeatures / kFeatures;
  const auto kernel = parts == 1 ? hopper_forward_kernel<kHalf, 1> : parts == 2 ? hopper_forward_kernel<kHalf, 2> : hopper_forward_kernel<kHalf, 4>;
  cudaError_t error = launch(kernel, dim3(static_cast<unsigned>(blocks)), kHopperThreads, shared, stream, sizes, rows, in.temperature,
                             in.normalize, slots, largest, sum);
  if (error != cudaSuccess) return error;
  const std::int64_t wanted = (in.count + kGroupThreads / kWarp - 1) / (kGroupThreads / kWarp);
  return launch(hopper_losses_kernel<kHalf>, dim3(static_cast<unsigned>(wanted < 65536 ? wanted : 65536)), kGroupThreads, 0, stream,
                sizes, rows, in.temperature, static_cast<const float*>(largest), static_cast<const double*>(sum), loss, lse);
}

struct Work {
  HopperRows rows;
  HopperTables tables;
  float* largest;
  double* sum;
};

Work work_in(Parts& parts, const HopperSizes& sizes) {
  Work out{};
  out.rows = hopper_rows_in(parts, sizes);
  out.tables = hopper_tables_in(parts, sizes);
  out.largest = parts.take<float>(sizes.rows);
  out.sum = parts.take<double>(sizes.rows);
  return out;
}

}  // namespace

std::int64_t hopper_forward_workspace(const ContrastiveCuda& in) {
  Parts parts(nullptr);
  work_in(parts, hopper_sizes(in));
  return parts.used();
}

cudaError_t hopper_forward(const ContrastiveCuda& in, void* workspace, void* loss, void* lse, cudaStream_t stream) {
  const HopperSizes sizes = hopper_sizes(in);
  Parts parts(workspace);
  const Work work = work_in(parts, sizes);
  const cudaError_t error = prepare_hopper(in, sizes, work.tables, work.rows, stream);
  if (error != cudaSuccess) return error;
  const auto call = hopper_half(in) ? run<true> : run<false>;
  return call(in, sizes, work.rows, work.largest, work.sum, static_cast<float*>(loss), static_cast<float*>(lse), stream);
}

}  // namespace clustercl
#endif
