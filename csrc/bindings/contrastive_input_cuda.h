// What the CUDA kernels of the loss read, from tensors.
#pragma once

#include <optional>
#include <string>

#include "../kernels/contrastive_cuda.h"
#include "contrastive.h"
#include "cuda.h"

namespace clustercl {

inline CudaPrecision precision_of(const torch::stable::Tensor& rows, bool tf32) {
  switch (rows.scalar_type()) {
    case torch::headeronly::ScalarType::BFloat16: return CudaPrecision::bf16;
    case torch::headeronly::ScalarType::Half: return CudaPrecision::half_as_tf32;
    case torch::headeronly::ScalarType::Float: return tf32 ? CudaPrecision::tf32 : CudaPrecision::tf32x3;
    default:
      STD_TORCH_CHECK(rows.scalar_type() == torch::headeronly::ScalarType::Double,
                      "contrastive_loss: rows must be float64, float32, bfloat16 or float16");
      return CudaPrecision::fma;
  }
}

// Keeps alive what the kernels read. The temperature is left on the device: its value is not looked at, so that nothing waits.
struct ContrastiveInput {
  using Tensor = torch::stable::Tensor;
  Tensor rows, temperature;
  ContrastiveCuda in;

  ContrastiveInput(const Tensor& x, const Tensor& image, const std::optional<Tensor>& pseudo_class, const Tensor& t,
                   const std::string& same_class, std::int64_t ignore_label, bool normalize, std::int64_t first,
                   std::int64_t count, bool tf32, const std::optional<Tensor>& level_weight)
      : rows(torch::stable::contiguous(x)),
        temperature(torch::stable::to(t, torch::headeronly::ScalarType::Double, std::nullopt, device_of(x))) {
    const std::int64_t n = x.size(0);
    require_anchors(n, first, count, t);
    for (const Tensor* ids : {&image, pseudo_class ? &*pseudo_class : &image})
      STD_TORCH_CHECK(together(x, *ids), "contrastive_loss: image and pseudo_class must be on the device of rows");
    const SameClass mode = same_class_of(same_class);
    double weights[kMaxLevels] = {};
    const int levels = levels_of(level_weight, pseudo_class, mode, n, weights);
    in = {precision_of(x, tf32), rows.data_ptr(), n, x.size(1), per_row(image, "image", n),
          pseudo_class ? per_row(*pseudo_class, "pseudo_class", n, levels) : nullptr, ignore_label, mode,
          static_cast<const double*>(temperature.data_ptr()), normalize, first, count, levels, {}};
    for (int level = 0; level < levels; ++level) in.level_weight[level] = weights[level];
  }
};

}  // namespace clustercl
