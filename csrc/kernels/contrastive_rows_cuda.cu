// Prepares rows for the passes of contrastive_cuda.h: a warp per row finds its norm and writes it as tile.cuh multiplies it.
//
// Numerics: a row is first multiplied by a power of two that brings its largest element to 1/2 .. 1, so that no square
// overflows. bfloat16 rows stay at that, which loses no digit, and are divided by their norm after the product; others are
// divided here. Determinism: one order of summation.
#include "contrastive.cuh"
#include "elements.cuh"

namespace clustercl {
namespace {

template <class E, class Source>
__global__ void __launch_bounds__(kTileThreads) prepare_rows_kernel(const Source* rows, ContrastiveSizes sizes, bool normalize,
                                                                    ContrastivePrepared<E> out) {
  using Sum = typename E::Sum;
  constexpr int kWarps = kTileThreads / kWarp;
  constexpr bool kLater = sizeof(typename E::Element) == 2;  // divided by the norm after the product
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; i < sizes.n_tiles * kTile;
       i += static_cast<std::int64_t>(gridDim.x) * kWarps) {
    const Source* row = rows + i * sizes.d;
    const std::int64_t d = i < sizes.n ? sizes.d : 0;
    Sum scale = 1, inverse = i < sizes.n ? 1 : 0, inverse_norm = inverse;
    if (normalize) {
      const RowRange<Sum> range(row, d);
      const Sum half = range.half, rest = range.rest;
      Sum square = 0;
      for (std::int64_t f = lane; f < d; f += kWarp) {
        const Sum x = read(row[f]) * half * rest;
        square += x * x;
      }
      for (int other = kWarp / 2; other > 0; other /= 2) square += shuffle_xor(square, other);
      const bool zero = range.largest == 0;
      const Sum length = zero ? Sum{0} : 1 / sqrt(square);
      inverse = kLater || zero ? length : Sum{1};
      inverse_norm = length * half * rest;
      for (std::int64_t f = lane; f < sizes.pitch; f += kWarp) {
        const Sum x = f < d ? read(row[f]) * half * rest : Sum{0};
        write(kLater ? x : x * length, out.units[i * sizes.pitch + f]);
      }
    } else {
      for (std::int64_t f = lane; f < sizes.pitch; f += kWarp)
        write(f < d ? static_cast<Sum>(read(row[f])) : Sum{0}, out.units[i * sizes.pitch + f]);
    }
    if (lane == 0) {
      out.inverse[i] = inverse * scale;
      out.inverse_norm[i] = inverse_norm;
    }
  }
}

template <class E, class Source>
cudaError_t prepare(const void* rows, bool normalize, const ContrastiveSizes& sizes, const ContrastivePrepared<E>& out,
                    cudaStream_t stream) {
  return launch(prepare_rows_kernel<E, Source>, grid_for(sizes.n_tiles * kTile, kTileThreads / kWarp, 65536), kTileThreads, 0, stream,
                static_cast<const Source*>(rows), sizes, normalize, out);
}

}  // namespace

template <>
cudaError_t prepare_rows_cuda(const ContrastiveCuda& in, const ContrastiveSizes& sizes, const ContrastivePrepared<Bf16>& out,
                              cudaStream_t stream) {
  return prepare<Bf16, BFloat>(in.rows, in.normalize, sizes, out, stream);
}
template <>
cudaError_t prepare_rows_cuda(const ContrastiveCuda& in, const ContrastiveSizes& sizes, const ContrastivePrepared<Tf32>& out,
                              cudaStream_t stream) {
  return in.precision == CudaPrecision::half_as_tf32 ? prepare<Tf32, Half>(in.rows, in.normalize, sizes, out, stream)
                                                     : prepare<Tf32, float>(in.rows, in.normalize, sizes, out, stream);
}
template <>
cudaError_t prepare_rows_cuda(const ContrastiveCuda& in, const ContrastiveSizes& sizes, const ContrastivePrepared<Tf32x3>& out,
                              cudaStream_t stream) {
  return prepare<Tf32x3, float>(in.rows, in.normalize, sizes, out, stream);
}
template <>
cudaError_t prepare_rows_cuda(const ContrastiveCuda& in, const ContrastiveSizes& sizes, const ContrastivePrepared<Fma>& out,
                              cudaStream_t stream) {
  return prepare<Fma, double>(in.rows, in.normalize, sizes, out, stream);
}

}  // namespace clustercl
