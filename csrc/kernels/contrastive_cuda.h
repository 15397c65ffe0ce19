// The contrastive loss on CUDA: formulas, shapes and modes as in contrastive.h; all pointers are device memory.
//
// Rows are first prepared: scaled, padded with zeros to whole tiles, in the type that is multiplied. Then
//   forward   a block of 64 anchors passes over all columns with the largest candidate so far and the sum of exponentials below
//             it, per row, in registers: nothing n x n, one pass, the same order in every run
//   backward  a block of 64 rows computes each tile again, turns it into the weights a_ij + a_ji and multiplies them by the
//             columns, for kOut features at a time: no atomics
// Memory beside the result: the rows once more, in the backward pass their gradient in the precision of the sums, 70 bytes a row.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "contrastive.h"

namespace clustercl {

// How rows come and how they are multiplied (tile.cuh; by wgmma: contrastive_hopper.cuh). float16 rows are exact in TF32.
enum class CudaPrecision { bf16, half_as_tf32, tf32, tf32x3, fma };

// Which matrix instructions: those that pay (contrastive_hopper.h has wgmma's case), or one kind alone, for tests.
enum class CudaProducts { automatic, mma, wgmma };

struct ContrastiveCuda {
  CudaPrecision precision;
  const void* rows;            // (n, d), contiguous: bfloat16, float16, float32 or float64 as precision says
  std::int64_t n, d;
  const std::int64_t* image;   // (n,)
  const std::int64_t* label;   // (n,) pseudo-classes, null under `ignore`
  std::int64_t ignore_label;
  SameClass same_class;
  const double* temperature;   // a device pointer: nothing waits for it
  bool normalize;
  std::int64_t first, count;   // anchors
  int levels = 0;              // as in contrastive.h: label is (levels, n)
  double level_weight[kMaxLevels] = {};
  CudaProducts products = CudaProducts::automatic;
};

// Bytes that the passes want at `workspace`, aligned to 256.
std::int64_t contrastive_forward_workspace(const ContrastiveCuda& in);
std::int64_t contrastive_backward_workspace(const ContrastiveCuda& in);

// What the forward pass found out about which rows belong together, for the backward pass: kOrderRows numbers per row, whose
// meaning is contrastive_hopper_rows_cuda.cu's. Where that has no part in it, 0. A backward pass wants that of its own forward pass:
// its numbers are followed without a look.
constexpr std::int64_t kOrderRows = 4;

// loss, lse (count,): float64 for fma, else float32. order (kOrderRows, n).
cudaError_t contrastive_forward_cuda(const ContrastiveCuda& in, void* workspace, void* loss, void* lse, std::int32_t* order,
                                     cudaStream_t stream);

// grad_rows (n, d) in the type of the rows, float32 for float16; grad_temperature one float64. lse, grad_loss (count,) as loss.
cudaError_t contrastive_backward_cuda(const ContrastiveCuda& in, void* workspace, const void* lse, const std::int32_t* order,
                                      const void* grad_loss, void* grad_rows, double* grad_temperature, cudaStream_t stream);

// The end of every backward pass: -sum(along) / (2 T), along (n,).
cudaError_t temperature_gradient(std::int64_t n, const double* along, const double* temperature, double* out, cudaStream_t stream);

}  // namespace clustercl
