// _C.linkage_cuda: rows on a GPU -> NumPy linkage matrix. Memory and stream come from torch, by way of clustercl.ops.linkage.
#if CLUSTERCL_WITH_CUDA
#include "../kernels/linkage_cuda.h"

#include "../kernels/pairwise_cuda.h"
#include "common.h"
#include "linkage.h"
#include "linkage_call.h"

namespace clustercl {

namespace py = pybind11;

namespace {

LinkageCuda input(std::int64_t n, std::int64_t padded, const std::string& method_name, const std::string& metric_name,
                  const std::string& entries_name) {
  const Linkage method = linkage_method_of(method_name);
  if (n < 2 || n > INT32_MAX || padded < 8 || padded % 8 != 0)
    throw py::value_error("linkage: rows must be (n, padded), n from 2 to 2^31 - 1, padded a multiple of 8");
  return {n, padded, method, linkage_metric_of(metric_name, method), entries_of(entries_name)};
}

}  // namespace

std::int64_t linkage_cuda_workspace_bytes(std::int64_t n, std::int64_t padded, const std::string& method, const std::string& metric,
                                          const std::string& entries) {
  return linkage_cuda_workspace(input(n, padded, method, metric, entries));
}

py::array_t<double> linkage_matrix_cuda(std::uintptr_t rows, std::int64_t n, std::int64_t padded, const std::string& method,
                                        const std::string& metric, const std::string& entries, std::uintptr_t workspace,
                                        std::uintptr_t stream, const py::object& progress) {
  const LinkageCuda in = input(n, padded, method, metric, entries);
  auto* const x = reinterpret_cast<double*>(rows);
  const auto on = reinterpret_cast<cudaStream_t>(stream);
  py::array_t<double> z({n - 1, std::int64_t{4}});
  Watch watch{progress};
  const Monitor monitor{Watch::proceed, &watch};
  cudaError_t error = cudaSuccess;
  bool finished = false;
  without_gil([&] {  // bad_alloc becomes MemoryError
    if (in.metric == Metric::cosine) error = normalize_rows_cuda(x, n, padded, on);
    if (error == cudaSuccess)
      error = linkage_cuda(in, x, reinterpret_cast<void*>(workspace), torch_threads(), monitor, z.mutable_data(), finished, on);
  });
  if (watch.error) std::rethrow_exception(watch.error);
  if (error != cudaSuccess) throw std::runtime_error(std::string("linkage: ") + cudaGetErrorString(error));
  watch.tell(monitor.effort);
  return z;
}

}  // namespace clustercl
#endif
