// What the host executor promises to catch, planted: a word names the fault, and CMakeLists.txt what must be said of it.
#include <cstdio>
#include <stdexcept>
#include <string>

#include "../device.h"
#include "kernels/common.cuh"

using namespace clustercl;

namespace {

constexpr int kThreads = 40;  // a warp and a part of one

__global__ void fill_kernel(int* out, int count) {
  for (int i = threadIdx.x; i < count; i += kThreads) out[i] = i;
}

__global__ void fill_shared_kernel(int count) {
  int* const shared = shared_memory<int>();
  for (int i = threadIdx.x; i < count; i += kThreads) shared[i] = i;
}

// One lane waits for the block, the others of its warp for that lane.
__global__ void part_kernel(int* out) {
  if (threadIdx.x == 7) __syncthreads();
  out[threadIdx.x] = __shfl_xor_sync(kAllLanes, static_cast<int>(threadIdx.x), 1);
}

__global__ void turn_kernel(int* out) {
  int* const shared = shared_memory<int>();
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared[kThreads - 1 - threadIdx.x];
}

}  // namespace

int main(int count, char** words) {
  const std::string fault = count > 1 ? words[1] : "";
  test::Device<int> out(std::vector<int>(kThreads, -1));
  try {
    if (fault == "array") return launch(fill_kernel, dim3(1), kThreads, 0, nullptr, out.get(), kThreads + 1);
    if (fault == "shared") return launch(fill_shared_kernel, dim3(1), kThreads, kThreads * sizeof(int), nullptr, kThreads + 1);
    if (fault == "barrier") return launch(part_kernel, dim3(1), kWarp, 0, nullptr, out.get());
    if (fault == "much") {
      const bool refused = launch(fill_shared_kernel, dim3(1), kThreads, 99 * 1024 + 16, nullptr, 1) == cudaErrorInvalidValue;
      std::puts(refused ? "too much, refused" : "taken");
      return 0;
    }
  } catch (const std::runtime_error& error) {
    std::puts(error.what());
    return 1;
  }
  int wrong = launch(turn_kernel, dim3(1), kThreads, kThreads * sizeof(int), nullptr, out.get()) != cudaSuccess;
  const std::vector<int> found = out.back();
  for (int i = 0; i < kThreads; ++i) wrong += found[i] != kThreads - 1 - i;
  return wrong;
}
