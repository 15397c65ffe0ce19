// Whether the present device and its driver can run what was compiled for CUDA.
#pragma once

#include <cuda_runtime_api.h>

namespace clustercl {

// cudaSuccess, or what will always be in the way: no code for such a card in this binary, a driver older than the runtime.
// Launches nothing.
cudaError_t card_refuses();

}  // namespace clustercl
