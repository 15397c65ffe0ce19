// The call that module.cpp offers to Python beside the torch ops.
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

}  // namespace clustercl
