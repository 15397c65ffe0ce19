// Blocks of one launch that meet: the last to arrive does something, and the others may wait for it.
#pragma once

#include "common.cuh"

namespace clustercl {

// 0 before the first launch.
struct Meeting {
  std::uint32_t arrived, passed;
};

#if defined(CLUSTERCL_SIMT)

// The executor has one block at a time.
inline bool last_to_arrive(Meeting* meeting) {
  __syncthreads();
  if (threadIdx.x != 0 || ++meeting->arrived < gridDim.x) return false;
  meeting->arrived = 0;
  return true;
}

struct Together {
  explicit Together(Meeting*) {}
  template <class Last>
  void wait(const Last& last) {
    __syncthreads();
    if (threadIdx.x == 0) last();
    __syncthreads();
  }
};

#else

// True in one thread, which sees what all threads of all blocks wrote before.
__device__ inline bool last_to_arrive(Meeting* meeting) {
  __syncthreads();
  if (threadIdx.x != 0) return false;
  std::uint32_t before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(before) : "l"(&meeting->arrived) : "memory");
  if (before + 1 < gridDim.x) return false;
  meeting->arrived = 0;
  return true;
}

// Of blocks that run at once (launch_together).
struct Together {
  Meeting* meeting;
  std::uint32_t passed;

  __device__ explicit Together(Meeting* all) : meeting(all), passed(all->passed) {}

  // Waits for all threads of all blocks, sees what they wrote, and what one thread did in `last` when all were there.
  template <class Last>
  __device__ void wait(const Last& last) {
    if (last_to_arrive(meeting)) {
      last();
      asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(&meeting->passed), "r"(passed + 1) : "memory");
    } else if (threadIdx.x == 0) {
      std::uint32_t now;
      do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(&meeting->passed) : "memory");
      } while (now == passed);
    }
    ++passed;
    __syncthreads();
  }
};

#endif

}  // namespace clustercl
