// What every binding needs of torch's stable ABI: threads and errors.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include "../kernels/parallel.h"

namespace clustercl {

// torch's own pool, so that torch.set_num_threads holds for the kernels too.
inline Parallel torch_threads() {
  return Parallel{static_cast<int>(torch::stable::get_num_threads()),
                  [](std::int64_t begin, std::int64_t end, std::int64_t grain, Parallel::Body call, void* body) {
                    torch::stable::parallel_for(begin, end, grain,
                                                [&](std::int64_t from, std::int64_t to) { call(body, from, to); });
                  }};
}

}  // namespace clustercl
