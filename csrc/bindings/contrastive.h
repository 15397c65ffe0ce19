// What the bindings of the loss share: the mode by its name, and what must hold of the numbers per row.
#pragma once

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

inline const std::int64_t* per_row(const torch::stable::Tensor& ids, const char* name, std::int64_t n) {
  STD_TORCH_CHECK(ids.scalar_type() == torch::headeronly::ScalarType::Long && ids.is_contiguous() && ids.dim() == 1 &&
                      ids.size(0) == n,
                  "contrastive_loss: ", name, " must be a contiguous int64 tensor of shape (", n, ",)");
  return static_cast<const std::int64_t*>(ids.data_ptr());
}

}  // namespace clustercl
