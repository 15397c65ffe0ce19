// Every op's schema on one screen, and the Python module itself.
#include <pybind11/pybind11.h>

#include "../kernels/ceiling.h"
#include "../kernels/dispatch.h"
#include "common.h"
#include "linkage.h"
#if CLUSTERCL_WITH_CUDA
#include "../kernels/card.h"
#endif

STABLE_TORCH_LIBRARY(clustercl, m) {
  m.def(
      "contrastive_loss(Tensor rows, Tensor image, Tensor? pseudo_class, Tensor temperature, str same_class, "
      "int ignore_label, bool normalize, int first, int count, bool tf32=False, "
      "Tensor? level_weight=None) -> (Tensor, Tensor, Tensor)");
  m.def(
      "contrastive_loss_backward(Tensor grad_loss, Tensor lse, Tensor order, Tensor rows, Tensor image, "
      "Tensor? pseudo_class, Tensor temperature, str same_class, int ignore_label, bool normalize, int first, "
      "bool tf32=False, Tensor? level_weight=None) -> (Tensor, Tensor)");
  m.def("pairwise_distances(Tensor x, Tensor y, str metric) -> Tensor");
}

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of clustercl; importing it registers torch.ops.clustercl.*";
  clustercl::imported_by = pybind11::module_::import("clustercl").attr("_imported_by").cast<pid_t>();
  m.def("linkage", &clustercl::linkage_matrix, "(n - 1, 4) linkage matrix of the rows of x", pybind11::arg("x"),
        pybind11::arg("method"), pybind11::arg("metric"), pybind11::arg("dtype"), pybind11::arg("progress"));
  m.def("linkage_of_condensed", &clustercl::linkage_of_condensed, "(n - 1, 4) linkage matrix from distances",
        pybind11::arg("condensed"), pybind11::arg("n"), pybind11::arg("method"), pybind11::arg("dtype"),
        pybind11::arg("progress"));
#if CLUSTERCL_WITH_CUDA
  m.def("linkage_cuda_workspace", &clustercl::linkage_cuda_workspace_bytes, "Bytes of device memory that linkage_cuda wants",
        pybind11::arg("n"), pybind11::arg("padded"), pybind11::arg("method"), pybind11::arg("metric"), pybind11::arg("dtype"));
  m.def("linkage_cuda", &clustercl::linkage_matrix_cuda, "(n - 1, 4) linkage matrix of rows on a GPU, by their addresses",
        pybind11::arg("rows"), pybind11::arg("n"), pybind11::arg("padded"), pybind11::arg("method"), pybind11::arg("metric"),
        pybind11::arg("dtype"), pybind11::arg("workspace"), pybind11::arg("stream"), pybind11::arg("progress"));
  m.def("card_refuses", [] {
    const cudaError_t error = clustercl::card_refuses();
    return std::string(error == cudaSuccess ? "" : cudaGetErrorString(error));
  }, "Why the present CUDA device cannot run these kernels; empty where it can.");
#endif
  m.def("fma_ceiling", [] { return clustercl::fma_ceiling(clustercl::torch_threads(), 5); },
        "Floating-point operations per second of float32 that multiply-adds in registers reach on all threads.");
  m.def("build_info", [] {
    pybind11::dict info;
    info["version"] = CLUSTERCL_VERSION;
    info["torch"] = CLUSTERCL_BUILT_WITH_TORCH;
    info["compiler"] = __VERSION__;
    info["cuda"] = static_cast<bool>(CLUSTERCL_WITH_CUDA);
    info["wgmma"] = static_cast<bool>(CLUSTERCL_WITH_WGMMA);
    info["cuda_reason"] = CLUSTERCL_CUDA_REASON;
    info["nvcc"] = CLUSTERCL_NVCC;
    info["cpu"] = clustercl::isa_name(clustercl::cpu_isa());
    return info;
  }, "What this binary was built with, and the instruction set that it uses on this CPU.");
}
