// Whether kernels that stand on hopper.cuh are there: built for compute capability 9.0a, and the present device has it.
#pragma once

// Set by CMake where the kernels are compiled for 9.0a.
#if !defined(CLUSTERCL_HOPPER)
#define CLUSTERCL_HOPPER 0
#endif

#if CLUSTERCL_HOPPER
#include <cuda_runtime_api.h>
#endif

namespace clustercl {

inline bool has_wgmma() {
#if CLUSTERCL_HOPPER
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess && major == 9 && minor == 0;
#else
  return false;
#endif
}

}  // namespace clustercl
