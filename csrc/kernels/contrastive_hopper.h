// The contrastive loss on CUDA with the matrix instructions of compute capability 9.0: contrastive_cuda.h's contract.
//
// For losses of one label level without further positives (exclude, ignore) of up to 512 features, in bfloat16 or what TF32
// suffices for: float16, and float32 where torch allows TF32, both multiplied as float16 of rows brought to length about 1,
// which keeps the 11 digits that TF32 keeps; other float32 rows of up to 256 features, by three products of float16
// (contrastive_hopper.cuh). Everything else takes mma.sync (contrastive_cuda.h).
//   forward    a block of 128 anchors passes over all columns: sums of exponentials of what is not excluded, by keys alone;
//              then a warp per anchor adds its positives, which are few
//   backward   a block of 128 rows computes each tile again, weighs it and multiplies it by the columns' features, 256 of them
//              at a time; then a warp per row adds its positives and takes out what lies along the row
// Memory: as contrastive_cuda.h, and 68 to 100 bytes a row for keys in the forward pass. Deterministic.
// Proven on a GPU alone: the host executor has neither wgmma nor bulk copies.
// Sources: contrastive.h; the order of work in a block is FlashAttention-3's (Shah et al. 2024).
#pragma once

#include "contrastive_cuda.h"
#include "hopper.h"

namespace clustercl {

// Whether this build and the present device have it, and the case is one of those.
bool hopper_takes(const ContrastiveCuda& in);

std::int64_t hopper_forward_workspace(const ContrastiveCuda& in);
std::int64_t hopper_backward_workspace(const ContrastiveCuda& in);
cudaError_t hopper_forward(const ContrastiveCuda& in, void* workspace, void* loss, void* lse, std::int32_t* order,
                           cudaStream_t stream);
cudaError_t hopper_backward(const ContrastiveCuda& in, void* workspace, const void* lse, const std::int32_t* order,
                            const void* grad_loss, void* grad_rows, double* grad_temperature, cudaStream_t stream);

#if !CLUSTERCL_HOPPER
inline bool hopper_takes(const ContrastiveCuda&) { return false; }
inline std::int64_t hopper_forward_workspace(const ContrastiveCuda&) { return 0; }
inline std::int64_t hopper_backward_workspace(const ContrastiveCuda&) { return 0; }
inline cudaError_t hopper_forward(const ContrastiveCuda&, void*, void*, void*, std::int32_t*, cudaStream_t) {
  return cudaErrorUnknown;
}
inline cudaError_t hopper_backward(const ContrastiveCuda&, void*, const void*, const std::int32_t*, const void*, void*, double*,
                                   cudaStream_t) {
  return cudaErrorUnknown;
}
#endif

}  // namespace clustercl
