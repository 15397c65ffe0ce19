// The forward pass of contrastive_cuda.h: loss and log-sum of each anchor.
//
// A block of 128 threads owns 64 anchors and passes over all columns, 64 at a time; a lane holds the products of two anchors
// with 16 of them. Per anchor and lane: the largest candidate so far and the sum of exponentials below it, in float64 from
// tile to tile (one float32 holds 24 digits, a million terms want more), the sum of s over positives and their number. The four
// lanes of an anchor meet at the end. Exponentials are of base 2. Deterministic: one order of everything.
// Source: Milakov and Gimelshein 2018 (online softmax), contrastive.h.
#include "contrastive.cuh"
#include "contrastive_hopper.h"

namespace clustercl {
namespace {

template <class E, int kLabels>
__global__ void __launch_bounds__(kTileThreads)
    contrastive_forward_kernel(ContrastiveSizes sizes, const __grid_constant__ ContrastiveIds ids,
                               ContrastivePrepared<E> rows, const double* temperature, typename E::Sum* loss,
                               typename E::Sum* lse) {
  using Element = typename E::Element;
  using Sum = typename E::Sum;
  constexpr double kLog2E = 1.4426950408889634;
  Element* const buffer = shared_memory<Element>();
  const TileMarks<kLabels> marks{reinterpret_cast<std::int64_t*>(buffer + 2 * kTile * E::kStride)};
  Sum* const inverse = static_cast<Sum*>(marks.end());

  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const std::int64_t begin = sizes.first + static_cast<std::int64_t>(blockIdx.x) * kTile;
  // Anchors need not begin at a whole tile: rows behind the last prepared one are read from there.
  const std::int64_t last = (sizes.n_tiles - 1) * kTile, from = begin < last ? begin : last;
  std::int64_t row[2];
  std::int64_t image[2], label[2];
  Sum scale[2];
  bool anchor[2];
  for (int h = 0; h < 2; ++h) {
    row[h] = from + threadIdx.x / kWarp * 16 + g + 8 * h;
    anchor[h] = begin <= row[h] && row[h] < sizes.first + sizes.count;
    const RowMarks own = anchor[h] ? row_marks(ids, row[h]) : RowMarks{};
    image[h] = own.image;
    label[h] = own.label;
    scale[h] = static_cast<Sum>(static_cast<double>(rows.inverse[row[h]]) * kLog2E / *temperature);
  }
  Sum largest[2] = {-INFINITY, -INFINITY};
  double sum[2] = {0, 0}, pull[2] = {0, 0};
  std::int64_t positives[2] = {0, 0};

  if (kLabels > 1 && threadIdx.x < kTile) marks.set_row(ids, static_cast<int>(threadIdx.x), from + threadIdx.x);
  for (std::int64_t j0 = 0; j0 < sizes.n; j0 += kTile) {
    Sum s[kGroups][4];
    tile_product<E>(s, rows.units + from * sizes.pitch, rows.units + j0 * sizes.pitch, sizes.width, sizes.pitch, buffer);
    __syncthreads();
    if (threadIdx.x < kTile) {
      const std::int64_t j = j0 + threadIdx.x;
      marks.set_column(ids, static_cast<int>(threadIdx.x), j);
      inverse[threadIdx.x] = rows.inverse[j];
    }
    __syncthreads();
    const std::uint32_t same_image = to_similarities(s, scale, inverse, ids, image, marks, static_cast<int>(row[0] - from), t);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      Sum most = largest[h], near = 0;
#pragma unroll
      for (int c = 0; c < kGroups; ++c)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = 8 * c + 2 * t + e;
          Sum& x = s[c][2 * h + e];
          const bool there = j0 + column < sizes.n && j0 + column != row[h];
          const Relation to = relation(x, same_image, bit_of(h, c, e), ids, {image[h], label[h]}, marks, column);
          if (there && to.positive) {
            near += x;
            ++positives[h];
          }
          if (!there || !to.candidate) x = static_cast<Sum>(-INFINITY);
          most = x > most ? x : most;
        }
      pull[h] += static_cast<double>(near);
      if (most == -INFINITY) continue;
      Sum part = 0;
#pragma unroll
      for (int c = 0; c < kGroups; ++c) part += exp2(s[c][2 * h] - most) + exp2(s[c][2 * h + 1] - most);
      sum[h] = sum[h] * static_cast<double>(exp2(largest[h] - most)) + static_cast<double>(part);
      largest[h] = most;
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    for (int other = 1; other < 4; other *= 2) {
      const Sum theirs = shuffle_xor(largest[h], other), most = theirs > largest[h] ? theirs : largest[h];
      const double mine = largest[h] == -INFINITY ? 0.0 : sum[h] * exp2(static_cast<double>(largest[h] - most));
      const double their_sum = shuffle_xor(sum[h], other);
      const double added = theirs == -INFINITY ? 0.0 : their_sum * exp2(static_cast<double>(theirs - most));
      // The lower lane's first, for both to have the same bits.
      sum[h] = (lane & other) == 0 ? mine + added : added + mine;
      largest[h] = most;
      const double their_pull = shuffle_xor(pull[h], other);
      pull[h] = (lane & other) == 0 ? pull[h] + their_pull : their_pull + pull[h];
      positives[h] += shuffle_xor(positives[h], other);
    }
    if (t != 0 || !anchor[h]) continue;
    const double log_sum = (static_cast<double>(largest[h]) + log2(sum[h])) / kLog2E;
    lse[row[h] - sizes.first] = static_cast<Sum>(log_sum);
    loss[row[h] - sizes.first] = static_cast<Sum>(log_sum - pull[h] / (kLog2E * static_cast<double>(positives[h])));
  }
}

}  // namespace

std::int64_t contrastive_forward_workspace(const ContrastiveCuda& in) {
  if (hopper_takes(in)) return hopper_forward_workspace(in);
  return with_elements(in.precision, [&](auto element) {
    Parts parts(nullptr);
    prepared_in<decltype(element)>(parts, sizes_of<decltype(element)>(in));
    return parts.used();
  });
}

cudaError_t contrastive_forward_cuda(const ContrastiveCuda& in, void* workspace, void* loss, void* lse, std::int32_t* order,
                                     cudaStream_t stream) {
  if (in.count > 0 && hopper_takes(in)) return hopper_forward(in, workspace, loss, lse, order, stream);
  const std::size_t bytes = static_cast<std::size_t>(kOrderRows * in.n) * sizeof(std::int32_t);
  const cudaError_t cleared = cudaMemsetAsync(order, 0, bytes, stream);
  if (cleared != cudaSuccess || in.count == 0) return cleared;
  return with_elements(in.precision, [&](auto element) {
    using E = decltype(element);
    using Sum = typename E::Sum;
    const ContrastiveSizes sizes = sizes_of<E>(in);
    Parts parts(workspace);
    const auto rows = prepared_in<E>(parts, sizes);
    const cudaError_t error = prepare_rows_cuda<E>(in, sizes, rows, stream);
    if (error != cudaSuccess) return error;
    const auto blocks = static_cast<unsigned>((in.count + kTile - 1) / kTile);
    return with_labels(in, [&](auto labels) {
      constexpr int kLabels = decltype(labels)::value;
      constexpr std::size_t kElements = 2 * kTile * E::kStride * sizeof(typename E::Element);
      return launch(contrastive_forward_kernel<E, kLabels>, dim3(blocks), kTileThreads,
                    kElements + TileMarks<kLabels>::kBytes + kTile * sizeof(Sum), stream, sizes, ids_of(in), rows, in.temperature,
                    static_cast<Sum*>(loss), static_cast<Sum*>(lse));
    });
  });
}

}  // namespace clustercl
