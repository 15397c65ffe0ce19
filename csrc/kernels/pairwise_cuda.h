// Distances on CUDA. Shapes and metrics as in pairwise.h; all pointers are device memory.
#pragma once

#include <cuda_runtime_api.h>

#include "pairwise.h"

namespace clustercl {

// Divides each row of rows (n, padded) by its norm, in place; rows of norm 0 stay 0.
cudaError_t normalize_rows_cuda(double* rows, std::int64_t n, std::int64_t padded, cudaStream_t stream);

// out (n, m) from prepared rows x (n, padded) and y (m, padded).
cudaError_t pairwise_distances_cuda(const double* x, std::int64_t n, const double* y, std::int64_t m,
                                    std::int64_t padded, Metric metric, double* out, cudaStream_t stream);

}  // namespace clustercl
