// What every CUDA kernel stands on: launches, shared memory, warps, and the matrix instructions behind wrappers.
//
// The same source runs without a GPU: with CLUSTERCL_SIMT the host compiler takes it, and csrc/tests/simt/simt.h supplies
// threads, barriers, shuffles and these wrappers, emulated lane by lane as PTX documents them.
// Matrix instructions: m16n8k16 on bfloat16 and float16, m16n8k8 on TF32, sums in float32; compute capability 8.0 and later.
// Fragments of a lane, with g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16" and "... k8"):
//   sums     c0 c1 = (g, 2t) (g, 2t + 1)   c2 c3 = the same of row g + 8
//   16bit A  a0 = (g, 2t and 2t + 1)  a1 = row g + 8  a2 = columns + 8  a3 = both;   B  b0 = (2t and 2t + 1, g)  b1 = rows + 8
//   tf32  A  a0 = (g, t)  a1 = (g + 8, t)  a2 = (g, t + 4)  a3 = (g + 8, t + 4);     B  b0 = (t, g)  b1 = (t + 4, g)
#pragma once

#include <cstdint>
#include <tuple>

#if defined(CLUSTERCL_SIMT)
#include "simt.h"
#else
#include <cuda_runtime.h>
#endif

namespace clustercl {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

#if defined(CLUSTERCL_SIMT)

template <class... Parameters, class... Arguments>
[[nodiscard]] cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared, cudaStream_t,
                                 Arguments... arguments) {
  return simt::run(grid, threads, shared, [=] { kernel(arguments...); });
}

// A grid of blocks that wait for each other: here one, since the executor runs them one after the other.
template <class... Parameters, class... Arguments>
[[nodiscard]] cudaError_t launch_together(void (*kernel)(Parameters...), std::int64_t, int threads, std::size_t shared,
                                          cudaStream_t stream, Arguments... arguments) {
  if (simt::refuse > 0 && ++simt::asked % simt::refuse == 0) return cudaErrorNotSupported;
  return launch(kernel, dim3(1), threads, shared, stream, arguments...);
}
inline bool refused(cudaError_t error) { return error == cudaErrorNotSupported; }

template <class T>
T* shared_memory() {
  return static_cast<T*>(simt::shared());
}

#else

// `shared` bytes beyond what every kernel has are asked for. No caller may leave the error aside.
template <class... Parameters, class... Arguments>
[[nodiscard]] cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared, cudaStream_t stream,
                                 Arguments... arguments) {
  if (shared > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, threads, shared, stream>>>(arguments...);
  return cudaGetLastError();
}

// A block for each multiprocessor, or `most` of them, all at once, which may wait for each other; `refused` tells of an error
// whether that cannot be.
template <class... Parameters, class... Arguments>
[[nodiscard]] cudaError_t launch_together(void (*kernel)(Parameters...), std::int64_t most, int threads, std::size_t shared,
                                          cudaStream_t stream, Arguments... arguments) {
  int device = 0, blocks = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&blocks, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  if (most < blocks) blocks = static_cast<int>(most);
  std::tuple<Parameters...> held(arguments...);
  error = std::apply(
      [&](auto&... each) {
        void* pointers[] = {&each...};
        return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
                                           dim3(static_cast<unsigned>(threads)), pointers, shared, stream);
      },
      held);
  if (error != cudaSuccess) cudaGetLastError();  // it is told here, and no later launch is to find it
  return error;
}
inline bool refused(cudaError_t error) { return error == cudaErrorCooperativeLaunchTooLarge || error == cudaErrorNotSupported; }

// The block's dynamic shared memory, aligned to 16 bytes.
template <class T>
__device__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char clustercl_shared[];
  return reinterpret_cast<T*>(clustercl_shared);
}

__device__ inline void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_f16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline void mma_tf32(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Two 8 x 8 matrices of 16-bit numbers, transposed: lanes 0 .. 15 point at their rows (16 bytes, aligned), and a lane gets
// (2t and 2t + 1, g) of each.
__device__ inline void load_transposed(std::uint32_t (&out)[2], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(out[0]), "=r"(out[1]) : "r"(address));
}

__device__ inline std::uint32_t to_tf32(float x) {
  std::uint32_t out;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(out) : "f"(x));
  return out;
}

// To the nearest, ties to even.
__device__ inline std::uint16_t to_f16(float x) {
  std::uint16_t out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
}

#endif

__device__ inline float as_float(std::uint32_t bits) {
  float out;
  memcpy(&out, &bits, sizeof out);
  return out;
}
__device__ inline std::uint32_t as_bits(float x) {
  std::uint32_t out;
  memcpy(&out, &x, sizeof out);
  return out;
}

// bfloat16 is the upper half of a float; to the nearest, ties to even, NaN stays one.
__device__ inline float of_bf16(std::uint16_t x) { return as_float(static_cast<std::uint32_t>(x) << 16); }
__device__ inline std::uint16_t to_bf16(float x) {
  const std::uint32_t bits = as_bits(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

// Rounded each by itself: what a compiler may not fuse, so that sums have the bits of the CPU's.
#if defined(CLUSTERCL_SIMT)
inline double times(double x, double y) { return x * y; }
inline double plus(double x, double y) { return x + y; }
#else
__device__ inline double times(double x, double y) { return __dmul_rn(x, y); }
__device__ inline double plus(double x, double y) { return __dadd_rn(x, y); }
#endif

// x from the lane whose number differs by the bits of `other`.
template <class T>
__device__ T shuffle_xor(T x, int other) {
  return __shfl_xor_sync(kAllLanes, x, other);
}

// x of lane `source`.
template <class T>
__device__ T shuffle(T x, int source) {
  return __shfl_sync(kAllLanes, x, source);
}

}  // namespace clustercl
