// The threads that the ctest programs hand to the kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels/parallel.h"

namespace clustercl::test {

inline int thread_count = 2;

inline void run_threads(std::int64_t begin, std::int64_t end, std::int64_t grain, Parallel::Body call, void* body) {
  const std::int64_t most = std::max<std::int64_t>(1, (end - begin) / std::max<std::int64_t>(1, grain));
  const std::int64_t count = std::min<std::int64_t>(thread_count, most);
  const std::int64_t chunk = (end - begin + count - 1) / count;
  std::vector<std::thread> threads;
  for (std::int64_t from = begin; from < end; from += chunk)
    threads.emplace_back(call, body, from, std::min(end, from + chunk));
  for (auto& thread : threads) thread.join();
}

inline Parallel threads(int count) {
  thread_count = count;
  return Parallel{count, run_threads};
}

}  // namespace clustercl::test
