// A host executor for the CUDA kernels: the blocks of a launch one after the other, the threads of a block as fibers that
// change at barriers and warp operations alone (so that an atomic is a plain operation). Shared memory is a heap array of exactly the size that was asked for, so that
// AddressSanitizer sees an access beyond it; it holds garbage when a block begins.
//
// What it finds: wrong indices, missing lanes and wrong results on ragged edges, deadlocks at barriers that not all threads
// reach. What it cannot find: a race that its order of threads happens to hide (`simt::reverse` runs them the other way round,
// which a correct kernel does not notice), and whatever concerns time.
#pragma once

#include <math.h>

#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __restrict__

enum cudaError_t {
  cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInsufficientDriver = 35, cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100, cudaErrorNoKernelImageForDevice = 209, cudaErrorJitCompilerNotFound = 221,
  cudaErrorUnsupportedPtxVersion = 222, cudaErrorJitCompilationDisabled = 223,
  cudaErrorNotSupported = 801, cudaErrorUnknown = 999
};
using cudaStream_t = struct CUstream_st*;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace simt {

struct Position {
  dim3 thread, block, block_size, grid;
};
extern Position position;
extern bool reverse;
extern std::int64_t waits;    // of the host for the device, so far
extern std::int64_t running;  // launches since the last of them
extern std::int64_t refuse;   // every so many-th launch of blocks that would wait for each other; 0: none
extern std::int64_t asked;    // how many of those there were

// Runs body once per thread; throws std::runtime_error when threads wait for ever or exit from within a warp operation.
cudaError_t run(dim3 grid, int threads, std::size_t shared, const std::function<void()>& body);

void* shared();
void barrier();
// Every lane of the warp gives `size` bytes and gets those of all 32, lane after lane, until its next exchange.
const unsigned char* exchange(const void* mine, std::size_t size);
int lane();

template <class T>
T from_lane(T x, int source) {
  T out;
  std::memcpy(&out, exchange(&x, sizeof(T)) + static_cast<std::size_t>(source) * sizeof(T), sizeof(T));
  return out;
}

}  // namespace simt

#define threadIdx (simt::position.thread)
#define blockIdx (simt::position.block)
#define blockDim (simt::position.block_size)
#define gridDim (simt::position.grid)

inline void __syncthreads() { simt::barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) { simt::from_lane(0, 0); }
template <class T>
T __shfl_xor_sync(unsigned, T x, int other) {
  return simt::from_lane(x, simt::lane() ^ other);
}
template <class T>
T __shfl_sync(unsigned, T x, int source) {
  return simt::from_lane(x, source & 31);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  const int mine = predicate != 0;
  const unsigned char* all = simt::exchange(&mine, sizeof mine);
  unsigned out = 0;
  for (int lane = 0; lane < 32; ++lane) {
    int theirs;
    std::memcpy(&theirs, all + static_cast<std::size_t>(lane) * sizeof theirs, sizeof theirs);
    out |= static_cast<unsigned>(theirs) << lane;
  }
  return out;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }

inline int atomicAdd(int* to, int value) {
  const int before = *to;
  *to += value;
  return before;
}
inline unsigned long long atomicMin(unsigned long long* to, unsigned long long value) {
  const unsigned long long before = *to;
  if (value < before) *to = value;
  return before;
}

// Device memory is host memory here.
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  ++simt::waits;
  simt::running = 0;
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
struct cudaFuncAttributes {};
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) { return cudaSuccess; }

namespace clustercl {

void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
void mma_f16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
void mma_tf32(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]);
void load_transposed(std::uint32_t (&out)[2], const void* row);
std::uint32_t to_tf32(float x);
std::uint16_t to_f16(float x);

}  // namespace clustercl
