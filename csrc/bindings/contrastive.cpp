// torch.ops.clustercl.contrastive_loss and its backward on CPU: rows of any strides and floating dtype.
#include "contrastive.h"

#include <cmath>
#include <optional>
#include <string>
#include <tuple>

namespace clustercl {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The half types are computed in float32.
Tensor wide(const Tensor& x) {
  const ScalarType type = x.scalar_type();
  if (type == ScalarType::Float || type == ScalarType::Double) return x;
  STD_TORCH_CHECK(type == ScalarType::Half || type == ScalarType::BFloat16,
                  "contrastive_loss: rows must be float64, float32, bfloat16 or float16");
  return torch::stable::to(x, ScalarType::Float);
}

template <class T>
Contrastive<T> input_of(const Tensor& rows, const Tensor& image, const std::optional<Tensor>& pseudo_class,
                        const Tensor& temperature, const std::string& same_class, std::int64_t ignore_label, bool normalize,
                        std::int64_t first, std::int64_t count, const std::optional<Tensor>& level_weight, double* weights) {
  const std::int64_t n = rows.size(0);
  require_anchors(n, first, count, temperature);
  const double t = *static_cast<const double*>(torch::stable::to(temperature, ScalarType::Double).data_ptr());
  STD_TORCH_CHECK(t > 0 && t < HUGE_VAL, "contrastive_loss: temperature must be a positive number, got ", t);
  const SameClass mode = same_class_of(same_class);
  const int levels = levels_of(level_weight, pseudo_class, mode, n, weights);
  return {static_cast<const T*>(rows.data_ptr()), n, rows.size(1), rows.stride(0), rows.stride(1), per_row(image, "image", n),
          pseudo_class ? per_row(*pseudo_class, "pseudo_class", n, levels) : nullptr, ignore_label, mode, t, normalize, first, count,
          levels, weights};
}

template <class T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

// The order that the backward pass of CUDA wants is of no use here: empty.
std::tuple<Tensor, Tensor, Tensor> contrastive_loss(const Tensor& rows, const Tensor& image,
                                                    const std::optional<Tensor>& pseudo_class, const Tensor& temperature,
                                                    const std::string& same_class, std::int64_t ignore_label, bool normalize,
                                                    std::int64_t first, std::int64_t count, bool /*tf32*/,
                                                    const std::optional<Tensor>& level_weight) {
  require_rows(rows);
  const Tensor x = wide(rows);
  const std::int64_t anchors = count < 0 ? x.size(0) : count;
  Tensor loss = torch::stable::new_empty(x, {anchors}), lse = torch::stable::new_empty(x, {anchors});
  const auto forward = [&]<class T>(T) {
    double weights[kMaxLevels];
    const auto in = input_of<T>(x, image, pseudo_class, temperature, same_class, ignore_label, normalize, first, anchors, level_weight,
                                weights);
    contrastive_forward(in, torch_threads(), data<T>(loss), data<T>(lse));
  };
  if (x.scalar_type() == ScalarType::Double)
    forward(double{});
  else
    forward(float{});
  return {loss, lse, torch::stable::new_empty(x, {0}, ScalarType::Int)};
}

std::tuple<Tensor, Tensor> contrastive_loss_backward(const Tensor& grad_loss, const Tensor& lse, const Tensor& /*order*/,
                                                     const Tensor& rows, const Tensor& image,
                                                     const std::optional<Tensor>& pseudo_class,
                                                     const Tensor& temperature, const std::string& same_class,
                                                     std::int64_t ignore_label, bool normalize, std::int64_t first,
                                                     bool /*tf32*/, const std::optional<Tensor>& level_weight) {
  require_rows(rows);
  const Tensor x = wide(rows);
  const Tensor g = torch::stable::contiguous(torch::stable::to(grad_loss, x.scalar_type()));
  const Tensor saved = torch::stable::contiguous(lse);
  require_saved(g, saved, x.scalar_type());
  Tensor grad_rows = torch::stable::new_empty(x, {x.size(0), x.size(1)});
  double grad_temperature = 0;
  const auto backward = [&]<class T>(T) {
    double weights[kMaxLevels];
    const auto in = input_of<T>(x, image, pseudo_class, temperature, same_class, ignore_label, normalize, first, g.size(0),
                                level_weight, weights);
    contrastive_backward(in, torch_threads(), data<T>(saved), data<T>(g), data<T>(grad_rows), &grad_temperature);
  };
  if (x.scalar_type() == ScalarType::Double)
    backward(double{});
  else
    backward(float{});
  Tensor by_temperature = torch::stable::new_empty(temperature, {});
  torch::stable::fill_(by_temperature, grad_temperature);
  if (rows.scalar_type() != x.scalar_type()) grad_rows = torch::stable::to(grad_rows, rows.scalar_type());
  return {grad_rows, by_temperature};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(clustercl, CPU, m) {
  m.impl("contrastive_loss", TORCH_BOX(&contrastive_loss));
  m.impl("contrastive_loss_backward", TORCH_BOX(&contrastive_loss_backward));
}

}  // namespace clustercl
