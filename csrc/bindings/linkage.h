// The call that module.cpp offers to Python beside the torch ops.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

namespace clustercl {

// x (n, d) float32 or float64 of any strides, n >= 2, finite; z (n - 1, 4) float64. progress(merges done) or None.
pybind11::array_t<double> linkage_matrix(const pybind11::array& x, const std::string& method, const std::string& metric,
                                         const pybind11::object& progress);

}  // namespace clustercl
