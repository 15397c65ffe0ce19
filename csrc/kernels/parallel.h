// How a kernel gets its threads: the caller hands it torch's pool (inside Python) or std::thread (in ctest).
#pragma once

#include <cstdint>

namespace clustercl {

struct Parallel {
  using Body = void (*)(void* body, std::int64_t begin, std::int64_t end);

  int threads;  // how many run at once at most; results may depend on it, never on the schedule
  void (*run)(std::int64_t begin, std::int64_t end, std::int64_t grain, Body call, void* body);

  // The calling thread alone: for work that other threads would take longer to wake up for.
  static Parallel alone() { return {1, run_alone}; }

  // Calls body(begin, end) on disjoint ranges that cover [begin, end), each at least `grain` long but the last.
  template <class F>
  void for_each(std::int64_t begin, std::int64_t end, std::int64_t grain, const F& body) const {
    if (begin >= end) return;
    run(begin, end, grain, [](void* self, std::int64_t from, std::int64_t to) { (*static_cast<const F*>(self))(from, to); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  static void run_alone(std::int64_t begin, std::int64_t end, std::int64_t, Body call, void* body) { call(body, begin, end); }
};

}  // namespace clustercl
