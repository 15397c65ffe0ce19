// Blocks of one launch that meet: none goes on before all are there.
#pragma once

#include "common.cuh"

namespace clustercl {

// 0 before the first launch.
struct Meeting {
  std::uint32_t arrived, passed;
};

#if defined(CLUSTERCL_SIMT)

// The executor has one block.
struct Together {
  explicit Together(Meeting*) {}
  void wait() { __syncthreads(); }
};

#else

// Of blocks that run at once (launch_together).
struct Together {
  Meeting* meeting;
  std::uint32_t passed;

  __device__ explicit Together(Meeting* all) : meeting(all), passed(all->passed) {}

  // Waits for all threads of all blocks, and sees what they wrote.
  __device__ void wait() {
    __syncthreads();
    if (threadIdx.x == 0) {
      std::uint32_t before;
      asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(before) : "l"(&meeting->arrived) : "memory");
      if (before + 1 == gridDim.x) {
        meeting->arrived = 0;
        asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(&meeting->passed), "r"(passed + 1) : "memory");
      } else {
        std::uint32_t now;
        do {
          asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(&meeting->passed) : "memory");
        } while (now == passed);
      }
    }
    ++passed;
    __syncthreads();
  }
};

#endif

}  // namespace clustercl
