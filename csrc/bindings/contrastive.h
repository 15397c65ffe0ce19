// What the bindings of the loss share: the mode by its name, and what must hold of the numbers per row.
#pragma once

#include <optional>
#include <string>

#include "../kernels/contrastive.h"
#include "common.h"

namespace clustercl {

inline SameClass same_class_of(const std::string& name) {
  if (name == "exclude") return SameClass::exclude;
  if (name == "attract") return SameClass::attract;
  STD_TORCH_CHECK(name == "ignore", "contrastive_loss: same_class must be exclude, attract or ignore, got '", name, "'");
  return SameClass::ignore;
}

inline void require_rows(const torch::stable::Tensor& rows) {
  STD_TORCH_CHECK(rows.dim() == 2, "contrastive_loss: rows must be (n, d), got ", rows.dim(), " dimensions");
}

inline void require_anchors(std::int64_t n, std::int64_t first, std::int64_t count, const torch::stable::Tensor& temperature) {
  STD_TORCH_CHECK(0 <= first && 0 < count && first + count <= n, "contrastive_loss: first and count must name rows of ", n,
                  ", got ", first, " and ", count);
  STD_TORCH_CHECK(temperature.dim() == 0, "contrastive_loss: temperature must have no dimension, got ", temperature.dim());
}

// sums: the type in which the forward pass gave lse.
inline void require_saved(const torch::stable::Tensor& grad_loss, const torch::stable::Tensor& lse,
                          torch::headeronly::ScalarType sums) {
  STD_TORCH_CHECK(grad_loss.dim() == 1 && lse.dim() == 1 && grad_loss.size(0) == lse.size(0) && lse.scalar_type() == sums &&
                      grad_loss.is_cpu() == lse.is_cpu() && grad_loss.get_device_index() == lse.get_device_index(),
                  "contrastive_loss: grad_loss and lse must be one number per anchor, as the forward pass gave them");
}

// levels: 0 for ids of shape (n,), else (levels, n).
inline const std::int64_t* per_row(const torch::stable::Tensor& ids, const char* name, std::int64_t n, int levels = 0) {
  STD_TORCH_CHECK(ids.scalar_type() == torch::headeronly::ScalarType::Long && ids.is_contiguous() &&
                      ids.dim() == (levels > 0 ? 2 : 1) && (levels == 0 || ids.size(0) == levels) && ids.size(ids.dim() - 1) == n,
                  "contrastive_loss: ", name, " must be a contiguous int64 tensor, one number a row", levels > 0 ? " and level" : "",
                  ", for ", n, " rows");
  return static_cast<const std::int64_t*>(ids.data_ptr());
}

// Weights of label levels, a CPU tensor: a device never waits for them, and a CUDA graph holds them.
inline int levels_of(const std::optional<torch::stable::Tensor>& weight, const std::optional<torch::stable::Tensor>& pseudo_class,
                     SameClass same_class, std::int64_t n, double* out) {
  if (!weight) return 0;
  STD_TORCH_CHECK(weight->is_cpu() && weight->scalar_type() == torch::headeronly::ScalarType::Double && weight->is_contiguous() &&
                      weight->dim() == 1 && 0 < weight->size(0) && weight->size(0) <= kMaxLevels,
                  "contrastive_loss: level_weight must be a float64 tensor on the CPU of 1 to ", kMaxLevels, " numbers");
  STD_TORCH_CHECK(same_class == SameClass::exclude && pseudo_class && pseudo_class->dim() == 2,
                  "contrastive_loss: level_weight goes with same_class exclude and pseudo_class (levels, n)");
  const auto levels = static_cast<int>(weight->size(0));
  per_row(*pseudo_class, "pseudo_class", n, levels);
  for (int level = 0; level < levels; ++level) {
    out[level] = static_cast<const double*>(weight->data_ptr())[level];
    STD_TORCH_CHECK(0 <= out[level] && out[level] <= 1, "contrastive_loss: level_weight must lie in 0..1, got ", out[level]);
  }
  return levels;
}

}  // namespace clustercl
