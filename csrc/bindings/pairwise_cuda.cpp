// torch.ops.clustercl.pairwise_distances on CUDA: (n, d) and (m, d) of any strides and real dtype -> (n, m) float64.
#if CLUSTERCL_WITH_CUDA
#include "../kernels/pairwise_cuda.h"

#include "cuda.h"
#include "pairwise.h"

namespace clustercl {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The rows in float64, padded and, for cosine, of length 1. Whether a row is zero is known on the device alone, and asking
// would make the host wait: clustercl.ops.pairwise asks before it calls.
Tensor rows_of(const Tensor& x, Metric metric, cudaStream_t stream) {
  const std::int64_t n = x.size(0), d = x.size(1), padded = padded_width(d);
  Tensor rows = torch::stable::new_zeros(x, {n, padded}, ScalarType::Double);
  Tensor features = torch::stable::narrow(rows, 1, 0, d);
  torch::stable::copy_(features, x);
  if (metric == Metric::cosine)
    check_cuda(normalize_rows_cuda(static_cast<double*>(rows.data_ptr()), n, padded, stream), "pairwise_distances");
  return rows;
}

Tensor pairwise_distances_cuda_op(const Tensor& x, const Tensor& y, const std::string& metric_name) {
  const Metric metric = checked_metric(x, y, metric_name);
  STD_TORCH_CHECK(together(x, y), "pairwise_distances: y must be on the device of x");
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const cudaStream_t stream = current_stream(x.get_device_index());
  const Tensor a = rows_of(x, metric, stream), b = rows_of(y, metric, stream);
  Tensor out = torch::stable::new_empty(x, {x.size(0), y.size(0)}, ScalarType::Double);
  check_cuda(pairwise_distances_cuda(static_cast<const double*>(a.data_ptr()), x.size(0),
                                     static_cast<const double*>(b.data_ptr()), y.size(0), padded_width(x.size(1)),
                                     metric, static_cast<double*>(out.data_ptr()), stream),
             "pairwise_distances");
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(clustercl, CUDA, m) { m.impl("pairwise_distances", TORCH_BOX(&pairwise_distances_cuda_op)); }

}  // namespace clustercl
#endif
