// The calls that module.cpp offers to Python beside the torch ops.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

namespace clustercl {

// x (n, d) float32 or float64 of any strides, n >= 2, finite; z (n - 1, 4) float64. entries: float64 or float32, what a matrix
// of distances holds. progress(merges, rounds, distances), the numbers of them so far (kernels/linkage.h), or None.
pybind11::array_t<double> linkage_matrix(const pybind11::array& x, const std::string& method, const std::string& metric,
                                         const std::string& entries, const pybind11::object& progress);

// condensed (n (n - 1) / 2,) distances as SciPy's pdist gives them, finite, at least 0; not ward.
pybind11::array_t<double> linkage_of_condensed(const pybind11::array_t<double, pybind11::array::c_style>& condensed,
                                               std::int64_t n, const std::string& method, const std::string& entries,
                                               const pybind11::object& progress);

#if CLUSTERCL_WITH_CUDA
// rows: where n * padded doubles lie on the device, overwritten; workspace: where linkage_cuda_workspace_bytes lie; stream: a
// cudaStream_t of the current device. For cosine no row is all zeros.
std::int64_t linkage_cuda_workspace_bytes(std::int64_t n, std::int64_t padded, const std::string& method,
                                          const std::string& metric, const std::string& entries);
pybind11::array_t<double> linkage_matrix_cuda(std::uintptr_t rows, std::int64_t n, std::int64_t padded, const std::string& method,
                                              const std::string& metric, const std::string& entries, std::uintptr_t workspace,
                                              std::uintptr_t stream, const pybind11::object& progress);
#endif

}  // namespace clustercl
