// torch's current CUDA stream, and launch errors as exceptions.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>

#include "common.h"

// torch declares it only in CUDA builds (USE_CUDA), and this binary must also load where torch has no CUDA: weak, it is
// resolved through libtorch.so where there is one and null elsewhere.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(std::int32_t device_index,
                                                                                  void** ret_stream);

namespace clustercl {

inline cudaStream_t current_stream(std::int32_t device_index) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "clustercl: this torch has no CUDA");
  void* stream = nullptr;
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device_index, &stream) == 0,
                  "clustercl: torch gave no current stream of CUDA device ", device_index);
  return static_cast<cudaStream_t>(stream);
}

inline torch::stable::Device device_of(const torch::stable::Tensor& x) {
  using torch::headeronly::DeviceType;
  return x.is_cuda() ? torch::stable::Device(DeviceType::CUDA, x.get_device_index()) : torch::stable::Device(DeviceType::CPU);
}

// Whether y is on the GPU on which x is.
inline bool together(const torch::stable::Tensor& x, const torch::stable::Tensor& y) {
  return y.is_cuda() && x.get_device_index() == y.get_device_index();
}

inline void check_cuda(cudaError_t error, const char* op) {
  STD_TORCH_CHECK(error == cudaSuccess, op, ": ", cudaGetErrorString(error));
}

}  // namespace clustercl
