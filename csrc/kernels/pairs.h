// Work on all pairs of blocks by several threads, where a task may write to both of its blocks.
//
// The pairs are those of a round-robin tournament: round 0 pairs each block with itself, every later round pairs all blocks
// anew, so that the tasks of one round share none. Threads take the tasks in that order and wait until both blocks have
// finished their earlier rounds; there is no barrier, no lock, and no copy of a block per thread. A task waits only for
// earlier ones, which other threads have already begun, so nothing can block, whatever number of threads really runs.
// Determinism: the order of the tasks of each block does not depend on the threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "parallel.h"

namespace clustercl {

// task(i, j) once for all 0 <= i <= j < count.
template <class F>
void for_each_pair(std::int64_t count, const Parallel& parallel, const F& task) {
  if (count < 1) return;
  const std::int64_t seats = count + count % 2, rounds = seats, tables = seats / 2;  // a seat more: its partner pauses
  const auto finished = std::make_unique<std::atomic<std::int64_t>[]>(count);        // rounds, per block
  std::atomic<std::int64_t> next{0};
  const auto wait_for = [&](std::int64_t block, std::int64_t round) {
    while (finished[block].load(std::memory_order_acquire) != round) std::this_thread::yield();
  };
  const auto work = [&](std::int64_t, std::int64_t) {
    for (std::int64_t at; (at = next.fetch_add(1, std::memory_order_relaxed)) < count + (rounds - 1) * tables;) {
      if (at < count) {
        task(at, at);
        finished[at].store(1, std::memory_order_release);
        continue;
      }
      const std::int64_t round = (at - count) / tables, table = (at - count) % tables, turn = seats - 1;
      std::int64_t i = table == 0 ? turn : (round + table) % turn, j = (round - table + turn) % turn;
      if (i > j) std::swap(i, j);
      wait_for(i, round + 1);
      if (j < count) {
        wait_for(j, round + 1);
        task(i, j);
        finished[j].store(round + 2, std::memory_order_release);
      }
      finished[i].store(round + 2, std::memory_order_release);
    }
  };
  parallel.for_each(0, parallel.threads, 1, work);
}

}  // namespace clustercl
