// What every binding needs of torch's stable ABI: threads and errors.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <unistd.h>

#include <algorithm>
#include <future>
#include <vector>

#include "../kernels/parallel.h"

namespace clustercl {

// A process that was forked off has OpenMP's pool of its parent without its threads, for which it would wait for ever: it starts
// threads of its own, for the same parts as torch makes. The process that imported clustercl, which may be the parent of the one
// that loads this module, as names of clustercl are loaded when they are first used; module.cpp sets it.
inline pid_t imported_by = getpid();

inline void run_forked(std::int64_t begin, std::int64_t end, std::int64_t grain, Parallel::Body call, void* body) {
  const auto parts = [&](std::int64_t size) { return (end - begin + size - 1) / size; };
  const std::int64_t part = parts(std::min<std::int64_t>(torch::stable::get_num_threads(), parts(std::max<std::int64_t>(1, grain))));
  std::vector<std::future<void>> others;
  for (std::int64_t from = begin + part; from < end; from += part)
    others.push_back(std::async(std::launch::async, call, body, from, std::min(end, from + part)));
  call(body, begin, std::min(end, begin + part));
  for (auto& other : others) other.get();
}

// torch's own pool, so that torch.set_num_threads holds for the kernels too.
inline Parallel torch_threads() {
  const auto threads = static_cast<int>(torch::stable::get_num_threads());
  if (getpid() != imported_by) return Parallel{threads, run_forked};
  return Parallel{threads,
                  [](std::int64_t begin, std::int64_t end, std::int64_t grain, Parallel::Body call, void* body) {
                    torch::stable::parallel_for(begin, end, grain,
                                                [&](std::int64_t from, std::int64_t to) { call(body, from, to); });
                  }};
}

}  // namespace clustercl
