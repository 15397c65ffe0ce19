// torch.ops.clustercl.pairwise_distances: (n, d) and (m, d) of any strides and real dtype -> (n, m) float64.
#include <memory>

#include "pairwise.h"

namespace clustercl {

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The rows in float64, padded and, for cosine, of length 1.
std::unique_ptr<double[]> rows_of(const Tensor& x, const char* name, Metric metric) {
  const std::int64_t n = x.size(0), d = x.size(1), padded = padded_width(d);
  std::unique_ptr<double[]> rows(new double[n * padded]);
  if (x.scalar_type() == ScalarType::Float) {
    pad_rows(static_cast<const float*>(x.data_ptr()), n, d, x.stride(0), x.stride(1), rows.get());
  } else {
    const Tensor wide = x.scalar_type() == ScalarType::Double ? x : torch::stable::to(x, ScalarType::Double);
    pad_rows(static_cast<const double*>(wide.data_ptr()), n, d, wide.stride(0), wide.stride(1), rows.get());
  }
  const std::int64_t zero = prepare_rows(rows.get(), n, padded, metric);
  STD_TORCH_CHECK(zero < 0, "pairwise_distances: ", name, " row ", zero, " is all zeros and has no cosine");
  return rows;
}

Tensor pairwise_distances_cpu(const Tensor& x, const Tensor& y, const std::string& metric_name) {
  const Metric metric = checked_metric(x, y, metric_name);
  const auto a = rows_of(x, "x", metric), b = rows_of(y, "y", metric);
  Tensor out = torch::stable::new_empty(x, {x.size(0), y.size(0)}, ScalarType::Double);
  pairwise_distances(a.get(), x.size(0), b.get(), y.size(0), padded_width(x.size(1)), metric, torch_threads(),
                     static_cast<double*>(out.data_ptr()));
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(clustercl, CPU, m) { m.impl("pairwise_distances", TORCH_BOX(&pairwise_distances_cpu)); }

}  // namespace clustercl
