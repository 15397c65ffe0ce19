// All kernels are compiled for the same cards, so an empty one stands for them.
#include "card.h"
#include "common.cuh"

namespace clustercl {
namespace {

__global__ void empty_kernel() {}

}  // namespace

cudaError_t card_refuses() {
  cudaFuncAttributes found;
  const cudaError_t error = cudaFuncGetAttributes(&found, reinterpret_cast<const void*>(empty_kernel));
  if (error != cudaSuccess) cudaGetLastError();  // it is told here, and no later launch is to find it
  switch (error) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
      return error;
    default:  // what passes, as a stream that is being captured: the launch will tell
      return cudaSuccess;
  }
}

}  // namespace clustercl
