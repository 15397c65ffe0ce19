// linkage.h on CUDA: the same tree from rows on the device.
//
//   ward      O(n d) memory: scans by products on tensor cores that bound distances from below, float64 decides
//   average, complete   a square matrix of n^2 entries (float64, or compact.h), joined a round of merges at a time
//   single    the minimum spanning tree by Boruvka, scans as ward's
// Distances, ties and heights are those of linkage.h: float64 with the bits of the CPU's distances and centroids. Average adds
// distances up in the order of its rounds, which are not the CPU's: heights agree to rounding there.
// How: rounds of reciprocal nearest neighbours as in linkage_rounds.cpp, all state on the device; after some rounds the host
// learns how many clusters are left. Results do not depend on the grid; lists may be filled in any order.
// Shapes: rows (n, padded) from prepare_rows or of the caller's making, overwritten; z (n - 1, 4), on the host.
// Memory: linkage_cuda_workspace, on the device: beside the rows twice them in float32 (ward, single; 9.0: at least 128 numbers of
// 16 bits), at most 430 bytes per row and 10 MiB.
// Proven on the host executor against linkage.h (test_linkage_cuda.cpp); see docs/linkage.md for what has run on a GPU.
// Sources: linkage.h; Boruvka 1926; Muja and Lowe's idea of candidate lists is linkage_rounds.cpp's here.
#pragma once

#include <cuda_runtime_api.h>

#include "linkage.h"

namespace clustercl {

struct LinkageCuda {
  std::int64_t n, padded;
  Linkage method;
  Metric metric;
  Entries entries;  // of average and complete
};

std::int64_t linkage_cuda_workspace(const LinkageCuda& in);

// finished: false when the monitor stopped it. n >= 2, n < 2^31. The stream is waited for.
cudaError_t linkage_cuda(const LinkageCuda& in, double* rows, void* workspace, const Parallel& parallel, const Monitor& monitor,
                         double* z, bool& finished, cudaStream_t stream);

}  // namespace clustercl
