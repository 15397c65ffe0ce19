// What the CPU and the CUDA half of pairwise_distances check alike.
#pragma once

#include <string>

#include "../kernels/pairwise.h"
#include "common.h"

namespace clustercl {

inline Metric checked_metric(const torch::stable::Tensor& x, const torch::stable::Tensor& y, const std::string& metric) {
  STD_TORCH_CHECK(x.dim() == 2, "pairwise_distances: x must be (n, d), got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(y.dim() == 2, "pairwise_distances: y must be (m, d), got ", y.dim(), " dimensions");
  STD_TORCH_CHECK(x.size(1) == y.size(1) && x.size(1) > 0, "pairwise_distances: x and y must have the same number of ",
                  "features, at least one, got ", x.size(1), " and ", y.size(1));
  if (metric == "sqeuclidean") return Metric::sqeuclidean;
  if (metric == "euclidean") return Metric::euclidean;
  STD_TORCH_CHECK(metric == "cosine", "pairwise_distances: metric must be euclidean, sqeuclidean or cosine, got '",
                  metric, "'");
  return Metric::cosine;
}

}  // namespace clustercl
