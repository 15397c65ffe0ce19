// The tournament of blocks: every pair once, never two tasks at a block, and the same order for a block on every run.
#include <atomic>
#include <cstdio>
#include <utility>
#include <vector>

#include "kernels/pairs.h"
#include "threads.h"

using namespace clustercl;

static std::atomic<int> failures{0};

static void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

// The partners of each block in the order in which they came.
static std::vector<std::vector<std::int64_t>> partners(std::int64_t count, int threads) {
  std::vector<std::vector<std::int64_t>> seen(count);
  std::vector<std::atomic<int>> busy(count);
  std::atomic<int> clashes{0};
  for_each_pair(count, test::threads(threads), [&](std::int64_t i, std::int64_t j) {
    check(i <= j, "the smaller block comes first");
    clashes += busy[i].exchange(1);
    if (j != i) clashes += busy[j].exchange(1);
    seen[i].push_back(j);
    if (j != i) seen[j].push_back(i);
    for (std::atomic<int> wait{0}; wait < 1000;) ++wait;  // long enough to be caught at it
    busy[i] = 0;
    busy[j] = 0;
  });
  check(clashes == 0, "no two tasks share a block");
  return seen;
}

int main() {
  for (std::int64_t count : {0, 1, 2, 3, 4, 5, 8, 17, 32}) {
    const auto alone = partners(count, 1);
    for (std::int64_t i = 0; i < count; ++i) {
      std::vector<int> met(count);
      for (std::int64_t j : alone[i]) ++met[j];
      for (int times : met) check(times == 1, "every pair meets once");
    }
    for (int threads : {2, 5, 64}) check(partners(count, threads) == alone, "a block meets the others in one order");
  }
  std::printf(failures ? "%d failures\n" : "ok\n", failures.load());
  return failures != 0;
}
