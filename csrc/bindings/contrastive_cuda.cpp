// torch.ops.clustercl.contrastive_loss and its backward on CUDA: rows of any strides and floating dtype.
#if CLUSTERCL_WITH_CUDA
#include <optional>
#include <string>
#include <tuple>

#include "contrastive_input_cuda.h"

namespace clustercl {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor workspace(const Tensor& like, std::int64_t bytes) { return torch::stable::new_empty(like, {bytes}, ScalarType::Byte); }

ScalarType type_of_sums(const Tensor& rows) {
  return rows.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

std::tuple<Tensor, Tensor, Tensor> contrastive_loss_cuda(const Tensor& rows, const Tensor& image,
                                                         const std::optional<Tensor>& pseudo_class, const Tensor& temperature,
                                                         const std::string& same_class, std::int64_t ignore_label, bool normalize,
                                                         std::int64_t first, std::int64_t count, bool tf32,
                                                         const std::optional<Tensor>& level_weight) {
  require_rows(rows);
  const torch::stable::accelerator::DeviceGuard guard(rows.get_device_index());
  const cudaStream_t stream = current_stream(rows.get_device_index());
  const std::int64_t anchors = count < 0 ? rows.size(0) : count;
  const ContrastiveInput input(rows, image, pseudo_class, temperature, same_class, ignore_label, normalize, first, anchors, tf32,
                               level_weight);
  Tensor loss = torch::stable::new_empty(rows, {anchors}, type_of_sums(rows));
  Tensor lse = torch::stable::new_empty(rows, {anchors}, type_of_sums(rows));
  Tensor order = torch::stable::new_empty(rows, {kOrderRows, rows.size(0)}, ScalarType::Int);
  const Tensor work = workspace(rows, contrastive_forward_workspace(input.in));
  check_cuda(contrastive_forward_cuda(input.in, work.data_ptr(), loss.data_ptr(), lse.data_ptr(),
                                      static_cast<std::int32_t*>(order.data_ptr()), stream),
             "contrastive_loss");
  return {loss, lse, order};
}

std::tuple<Tensor, Tensor> contrastive_loss_backward_cuda(const Tensor& grad_loss, const Tensor& lse, const Tensor& order,
                                                          const Tensor& rows, const Tensor& image,
                                                          const std::optional<Tensor>& pseudo_class, const Tensor& temperature,
                                                          const std::string& same_class, std::int64_t ignore_label,
                                                          bool normalize, std::int64_t first, bool tf32,
                                                          const std::optional<Tensor>& level_weight) {
  require_rows(rows);
  const torch::stable::accelerator::DeviceGuard guard(rows.get_device_index());
  const cudaStream_t stream = current_stream(rows.get_device_index());
  const ScalarType sums = type_of_sums(rows);
  const Tensor g = torch::stable::contiguous(torch::stable::to(grad_loss, sums)), saved = torch::stable::contiguous(lse);
  require_saved(g, saved, sums);
  STD_TORCH_CHECK(together(rows, saved) && together(rows, order),
                  "contrastive_loss: grad_loss, lse and order must be on the device of rows");
  STD_TORCH_CHECK(order.dim() == 2 && order.size(0) == kOrderRows && order.size(1) == rows.size(0) && order.is_contiguous() &&
                      order.scalar_type() == ScalarType::Int,
                  "contrastive_loss: order must be what the forward pass gave");
  const ContrastiveInput input(rows, image, pseudo_class, temperature, same_class, ignore_label, normalize, first, g.size(0), tf32,
                               level_weight);
  const bool half = rows.scalar_type() == ScalarType::Half;
  Tensor grad_rows = torch::stable::new_empty(rows, {rows.size(0), rows.size(1)}, half ? sums : rows.scalar_type());
  Tensor by_temperature = torch::stable::new_empty(input.temperature, {});
  const Tensor work = workspace(rows, contrastive_backward_workspace(input.in));
  check_cuda(contrastive_backward_cuda(input.in, work.data_ptr(), saved.data_ptr(),
                                       static_cast<const std::int32_t*>(order.data_ptr()), g.data_ptr(), grad_rows.data_ptr(),
                                       static_cast<double*>(by_temperature.data_ptr()), stream),
             "contrastive_loss");
  if (half) grad_rows = torch::stable::to(grad_rows, ScalarType::Half);
  return {grad_rows, torch::stable::to(by_temperature, temperature.scalar_type(), std::nullopt, device_of(temperature))};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(clustercl, CUDA, m) {
  m.impl("contrastive_loss", TORCH_BOX(&contrastive_loss_cuda));
  m.impl("contrastive_loss_backward", TORCH_BOX(&contrastive_loss_backward_cuda));
}

}  // namespace clustercl
#endif
