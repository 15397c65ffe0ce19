// _C.linkage: NumPy rows -> NumPy linkage matrix. Not a torch op, because a long clustering calls back into Python.
#include "linkage.h"

#include <memory>
#include <new>
#include <string>

#include "common.h"
#include "linkage_call.h"

namespace clustercl {

namespace py = pybind11;

py::array_t<double> linkage_matrix(const py::array& x, const std::string& method_name, const std::string& metric_name,
                                   const std::string& entries_name, const py::object& progress) {
  const Linkage method = linkage_method_of(method_name);
  const Entries entries = entries_of(entries_name);
  const Metric metric = linkage_metric_of(metric_name, method);
  const bool single_precision = py::isinstance<py::array_t<float>>(x);
  if (x.ndim() != 2 || x.shape(0) < 2 || x.shape(1) < 1 || !(single_precision || py::isinstance<py::array_t<double>>(x)))
    throw py::value_error("linkage: x must be (n, d) float32 or float64 with n >= 2 and d >= 1");
  const std::int64_t n = x.shape(0), d = x.shape(1), padded = padded_width(d), item = x.itemsize();
  if (x.strides(0) % item != 0 || x.strides(1) % item != 0)
    throw py::value_error("linkage: the strides of x must be whole numbers of its elements");

  py::array_t<double> z({n - 1, std::int64_t{4}});
  Watch watch{progress};
  std::int64_t zero = -1;
  bool memory = true;
  const Monitor monitor{Watch::proceed, &watch};
  without_gil([&] {
    try {
      const std::unique_ptr<double[]> rows(new double[n * padded]);
      const std::int64_t row_stride = x.strides(0) / item, column_stride = x.strides(1) / item;
      if (single_precision)
        pad_rows(static_cast<const float*>(x.data()), n, d, row_stride, column_stride, rows.get());
      else
        pad_rows(static_cast<const double*>(x.data()), n, d, row_stride, column_stride, rows.get());
      zero = prepare_rows(rows.get(), n, padded, metric);
      if (zero < 0)
        linkage(rows.get(), n, padded, method, metric, entries, torch_threads(), monitor, z.mutable_data());
    } catch (const std::bad_alloc&) {
      memory = false;
    }
  });
  if (watch.error) std::rethrow_exception(watch.error);
  if (zero >= 0) throw py::value_error("linkage: X row " + std::to_string(zero) + " is all zeros and has no cosine distance");
  if (!memory) {
    const bool matrix = method == Linkage::average || method == Linkage::complete;
    const std::int64_t entry = entries == Entries::half ? 4 : 8;
    const std::string text = "linkage: " + method_name + " of n = " + std::to_string(n) + " wants " +
                             std::to_string((matrix ? 3 : 1) * 8 * n * padded + (matrix ? entry * (n * (n - 1) / 2) : 64 * n)) + " bytes" +
                             (matrix ? "; ward and single need no matrix of distances" : "");
    PyErr_SetString(PyExc_MemoryError, text.c_str());
    throw py::error_already_set();
  }
  watch.tell(monitor.effort);
  return z;
}

py::array_t<double> linkage_of_condensed(const py::array_t<double, py::array::c_style>& condensed, std::int64_t n,
                                         const std::string& method_name, const std::string& entries_name,
                                         const py::object& progress) {
  const Linkage method = linkage_method_of(method_name);
  const Entries entries = entries_of(entries_name);
  const std::int64_t count = n * (n - 1) / 2;
  if (method == Linkage::ward || n < 2 || condensed.ndim() != 1 || condensed.shape(0) != count)
    throw py::value_error("linkage: condensed must hold n (n - 1) / 2 distances, for another method than ward");
  py::array_t<double> z({n - 1, std::int64_t{4}});
  Watch watch{progress};
  const Monitor monitor{Watch::proceed, &watch};
  without_gil([&] {  // bad_alloc becomes MemoryError
    linkage_of_distances(condensed.data(), n, method, entries, torch_threads(), monitor, z.mutable_data());
  });
  if (watch.error) std::rethrow_exception(watch.error);
  watch.tell(monitor.effort);
  return z;
}

}  // namespace clustercl
