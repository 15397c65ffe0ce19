// The backward pass of contrastive_cuda.h: the gradient by rows and temperature.
//
//   pull_i = sum_j (a_ij + a_ji) u_j,  a_ij = g_i (p_ij - [j in P(i)] / |P(i)|),  then as contrastive.h says
// Being positives is mutual and transitive, so |P(i)| = |P(j)| for positives and a row needs its own number alone, which a
// first kernel counts. A block of 128 threads owns 64 rows and kOut features of their pull, in registers: it passes over all
// columns, computes a tile again as the forward pass did, turns it into weights where it is, and multiplies them by the columns'
// kOut features. Features beyond kOut are other blocks', which compute the tile anew.
// Then a warp per row takes out what lies along the row, and one block adds up the gradient by the temperature.
// Numerics: weights are rounded as elements are. Deterministic: no atomics, one order of everything.
#include "contrastive.cuh"
#include "contrastive_hopper.h"
#include "elements.cuh"

namespace clustercl {
namespace {

constexpr double kLog2E = 1.4426950408889634;

__global__ void __launch_bounds__(kTileThreads)
    count_positives_kernel(ContrastiveSizes sizes, ContrastiveIds ids, std::int32_t* positives) {
  std::int64_t* const image = shared_memory<std::int64_t>();
  std::int64_t* const label = image + kTileThreads;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kTileThreads + threadIdx.x;
  const RowMarks own = i < sizes.n ? row_marks(ids, i) : RowMarks{};
  std::int32_t count = -1;  // itself
  for (std::int64_t j0 = 0; j0 < sizes.n; j0 += kTileThreads) {
    __syncthreads();
    const std::int64_t j = j0 + threadIdx.x;
    const RowMarks id = j < sizes.n ? row_marks(ids, j) : RowMarks{};
    image[threadIdx.x] = id.image;
    label[threadIdx.x] = id.label;
    __syncthreads();
    const int there = static_cast<int>(sizes.n - j0 < kTileThreads ? sizes.n - j0 : kTileThreads);
    for (int k = 0; k < there; ++k) count += relation(ids, own, {image[k], label[k]}).positive;
  }
  if (i < sizes.n) positives[i] = count;
}

// What a row weighs with: its log-sum in base 2 and the gradient of its loss; e^-inf = 0 where it is no anchor.
template <class Sum>
struct Weight {
  Sum lse, grad;
};

template <class Sum>
__device__ Weight<Sum> weight_of(const ContrastiveSizes& sizes, const Sum* lse, const Sum* grad_loss, std::int64_t i) {
  if (i < sizes.first || i >= sizes.first + sizes.count) return {INFINITY, 0};
  return {static_cast<Sum>(static_cast<double>(lse[i - sizes.first]) * kLog2E), grad_loss[i - sizes.first]};
}

// 2^(x - lse), of the sum that lse is the logarithm of; 1 to the last bit for a positive that is, to rounding, all of it.
template <class Sum>
__device__ Sum share_of(Sum x, Sum lse, bool positive) {
  constexpr Sum kRounding = sizeof(Sum) == 4 ? Sum(0x1p-21) : Sum(0x1p-50);  // log-sums pass through the natural logarithm
  const Sum off = x - lse;
  return positive && fabs(off) <= kRounding * (1 + fabs(lse)) ? Sum{1} : exp2(off);
}

// Two blocks a multiprocessor are named since the assembler, left alone, spills registers to fit a third.
template <class E, int kLabels>
__global__ void __launch_bounds__(kTileThreads, 2)
    contrastive_backward_kernel(ContrastiveSizes sizes, const __grid_constant__ ContrastiveIds ids,
                                ContrastivePrepared<E> rows, const double* temperature, const typename E::Sum* lse,
                                const typename E::Sum* grad_loss, const std::int32_t* positives, typename E::Sum* pull) {
  using Element = typename E::Element;
  using Sum = typename E::Sum;
  Element* const buffer = shared_memory<Element>();
  Element* const values = buffer + 2 * kTile * E::kStride;
  const TileMarks<kLabels> marks{reinterpret_cast<std::int64_t*>(values + kTile * kOutStride<E>)};
  Sum* const inverse = static_cast<Sum*>(marks.end());
  Sum *const their_lse = inverse + kTile, *const their_grad = their_lse + kTile;

  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const std::int64_t from = static_cast<std::int64_t>(blockIdx.x) * kTile, feature = static_cast<std::int64_t>(blockIdx.y) * E::kOut;
  std::int64_t row[2];
  std::int64_t image[2], label[2];
  Weight<Sum> weight[2];
  Sum scale[2], share[2];
  for (int h = 0; h < 2; ++h) {
    row[h] = from + threadIdx.x / kWarp * 16 + g + 8 * h;
    const bool there = row[h] < sizes.n;
    const RowMarks own = there ? row_marks(ids, row[h]) : RowMarks{};
    image[h] = own.image;
    label[h] = own.label;
    weight[h] = there ? weight_of(sizes, lse, grad_loss, row[h]) : Weight<Sum>{INFINITY, 0};
    share[h] = there ? Sum{1} / static_cast<Sum>(positives[row[h]]) : Sum{0};
    scale[h] = static_cast<Sum>(static_cast<double>(rows.inverse[row[h]]) * kLog2E / *temperature);
  }
  Sum out[E::kOut / 8][4];
#pragma unroll
  for (int c = 0; c < E::kOut / 8; ++c)
#pragma unroll
    for (int e = 0; e < 4; ++e) out[c][e] = 0;

  if (kLabels > 1 && threadIdx.x < kTile) marks.set_row(ids, static_cast<int>(threadIdx.x), from + threadIdx.x);
  for (std::int64_t j0 = 0; j0 < sizes.n; j0 += kTile) {
    Sum s[kGroups][4];
    tile_product<E>(s, rows.units + from * sizes.pitch, rows.units + j0 * sizes.pitch, sizes.width, sizes.pitch, buffer);
    // Whoever is still busy with the values of the last tile has not come through tile_product's first barrier.
    copy_tile<E::kOut>(values, kOutStride<E>, rows.units + j0 * sizes.pitch + feature, sizes.pitch);
    if (threadIdx.x < kTile) {
      const std::int64_t j = j0 + threadIdx.x;
      const bool there = j < sizes.n;
      const Weight<Sum> theirs = there ? weight_of(sizes, lse, grad_loss, j) : Weight<Sum>{INFINITY, 0};
      marks.set_column(ids, static_cast<int>(threadIdx.x), j);
      inverse[threadIdx.x] = rows.inverse[j];
      their_lse[threadIdx.x] = theirs.lse;
      their_grad[threadIdx.x] = theirs.grad;
    }
    __syncthreads();
    const std::uint32_t same_image = to_similarities(s, scale, inverse, ids, image, marks, static_cast<int>(row[0] - from), t);
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int c = 0; c < kGroups; ++c)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = 8 * c + 2 * t + e;
          const Sum x = s[c][2 * h + e];
          const bool there = j0 + column < sizes.n && j0 + column != row[h];
          const Relation to = relation(x, same_image, bit_of(h, c, e), ids, {image[h], label[h]}, marks, column);
          Sum w = 0;
          if (there && to.candidate)
            w = weight[h].grad * share_of(x, weight[h].lse, to.positive) +
                their_grad[column] * share_of(x, their_lse[column], to.positive);
          if (there && to.positive) w -= (weight[h].grad + their_grad[column]) * share[h];
          s[c][2 * h + e] = w * inverse[column];
        }
    E::accumulate(out, s, values, kOutStride<E>);
  }
#pragma unroll
  for (int c = 0; c < E::kOut / 8; ++c)
#pragma unroll
    for (int e = 0; e < 4; ++e) pull[row[e / 2] * sizes.pitch + feature + 8 * c + 2 * t + e % 2] = out[c][e];
}

__device__ inline float of_element(std::uint16_t x) { return of_bf16(x); }
__device__ inline float of_element(float x) { return x; }
__device__ inline double of_element(double x) { return x; }

// grad_x_i = (pull_i - u_i <u_i, pull_i>) / (|x_i| T); along[i] = <u_i, pull_i> / T.
template <class E, class Target>
__global__ void __launch_bounds__(kTileThreads)
    contrastive_finish_kernel(ContrastiveSizes sizes, ContrastivePrepared<E> rows, const double* temperature, bool normalize,
                              const typename E::Sum* pull, Target* grad_rows, double* along) {
  using Sum = typename E::Sum;
  constexpr int kWarps = kTileThreads / kWarp;
  const int lane = threadIdx.x % kWarp;
  const Sum inverse_temperature = static_cast<Sum>(1.0 / *temperature);
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; i < sizes.n;
       i += static_cast<std::int64_t>(gridDim.x) * kWarps) {
    const typename E::Element* unit = rows.units + i * sizes.pitch;
    const Sum* own = pull + i * sizes.pitch;
    Sum dot = 0;
    for (std::int64_t f = lane; f < sizes.d; f += kWarp) dot += of_element(unit[f]) * own[f];
    for (int other = kWarp / 2; other > 0; other /= 2) dot += shuffle_xor(dot, other);
    dot *= rows.inverse[i];
    for (std::int64_t f = lane; f < sizes.d; f += kWarp) {
      const Sum across = normalize ? own[f] - of_element(unit[f]) * rows.inverse[i] * dot : own[f];
      write(across * inverse_temperature * rows.inverse_norm[i], grad_rows[i * sizes.d + f]);
    }
    if (lane == 0) along[i] = static_cast<double>(dot) / *temperature;
  }
}

template <class E>
struct Work {
  ContrastivePrepared<E> rows;
  typename E::Sum* pull;
  double* along;
  std::int32_t* positives;
};

template <class E>
Work<E> work_in(Parts& parts, const ContrastiveSizes& sizes) {
  Work<E> out{};
  out.rows = prepared_in<E>(parts, sizes);
  out.pull = parts.take<typename E::Sum>(sizes.n_tiles * kTile * sizes.pitch);
  out.along = parts.take<double>(sizes.n);
  out.positives = parts.take<std::int32_t>(sizes.n);
  return out;
}

template <class E, class Target>
cudaError_t finish(const ContrastiveCuda& in, const ContrastiveSizes& sizes, const Work<E>& work, void* grad_rows,
                   cudaStream_t stream) {
  return launch(contrastive_finish_kernel<E, Target>, grid_for(sizes.n, kTileThreads / kWarp, 65536), kTileThreads, 0, stream, sizes,
                work.rows, in.temperature, in.normalize, work.pull, static_cast<Target*>(grad_rows), work.along);
}

}  // namespace

std::int64_t contrastive_backward_workspace(const ContrastiveCuda& in) {
  if (hopper_takes(in)) return hopper_backward_workspace(in);
  return with_elements(in.precision, [&](auto element) {
    Parts parts(nullptr);
    work_in<decltype(element)>(parts, sizes_of<decltype(element)>(in));
    return parts.used();
  });
}

cudaError_t contrastive_backward_cuda(const ContrastiveCuda& in, void* workspace, const void* lse, const std::int32_t* order,
                                      const void* grad_loss, void* grad_rows, double* grad_temperature, cudaStream_t stream) {
  if (in.count == 0) {  // nobody's loss
    const std::int64_t bytes = in.precision == CudaPrecision::bf16 ? 2 : in.precision == CudaPrecision::fma ? 8 : 4;
    const cudaError_t error = cudaMemsetAsync(grad_rows, 0, static_cast<std::size_t>(in.n * in.d * bytes), stream);
    return error != cudaSuccess ? error : cudaMemsetAsync(grad_temperature, 0, sizeof(double), stream);
  }
  if (hopper_takes(in)) return hopper_backward(in, workspace, lse, order, grad_loss, grad_rows, grad_temperature, stream);
  return with_elements(in.precision, [&](auto element) {
    using E = decltype(element);
    using Sum = typename E::Sum;
    const ContrastiveSizes sizes = sizes_of<E>(in);
    Parts parts(workspace);
    const auto work = work_in<E>(parts, sizes);
    const ContrastiveIds ids = ids_of(in);
    cudaError_t error = prepare_rows_cuda<E>(in, sizes, work.rows, stream);
    if (error != cudaSuccess) return error;
    error = launch(count_positives_kernel, dim3(static_cast<unsigned>((in.n + kTileThreads - 1) / kTileThreads)), kTileThreads,
                   2 * kTileThreads * sizeof(std::int64_t), stream, sizes, ids, work.positives);
    if (error != cudaSuccess) return error;
    const std::size_t elements = 2 * kTile * E::kStride + kTile * kOutStride<E>;
    const dim3 grid(static_cast<unsigned>(sizes.n_tiles), static_cast<unsigned>(sizes.pitch / E::kOut));
    error = with_labels(in, [&](auto labels) {
      constexpr int kLabels = decltype(labels)::value;
      const std::size_t shared = elements * sizeof(typename E::Element) + TileMarks<kLabels>::kBytes + 3 * kTile * sizeof(Sum);
      return launch(contrastive_backward_kernel<E, kLabels>, grid, kTileThreads, shared, stream, sizes, ids, work.rows,
                    in.temperature, static_cast<const Sum*>(lse), static_cast<const Sum*>(grad_loss), work.positives, work.pull);
    });
    if (error != cudaSuccess) return error;
    if constexpr (sizeof(typename E::Element) == 4) {
      // float16 rows get their gradient in float32: bindings round it.
      error = finish<E, float>(in, sizes, work, grad_rows, stream);
    } else {
      error = finish<E, typename E::Element>(in, sizes, work, grad_rows, stream);
    }
    if (error != cudaSuccess) return error;
    return temperature_gradient(in.n, work.along, in.temperature, grad_temperature, stream);
  });
}

}  // namespace clustercl
