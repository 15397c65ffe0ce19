// What the ctest programs of the CPU kernels share: checks that are counted, and every instruction set of this machine.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "kernels/dispatch.h"

namespace clustercl::test {

inline int failures = 0;

// data: on which, where one program has several.
inline void check(bool holds, const char* what, const char* data = nullptr) {
  if (holds) return;
  std::printf("FAILED: %s%s%s\n", data == nullptr ? "" : data, data == nullptr ? "" : ", ", what);
  ++failures;
}

inline constexpr const char* kIsas[] = {"portable", "avx2", "avx512"};
inline bool lacking[3] = {};

// body(name) with each that this machine has.
template <class F>
void for_each_isa(const F& body) {
  for (int k = 0; k < 3; ++k) {
    setenv("CLUSTERCL_CPU", kIsas[k], 1);
    try {
      cpu_isa();
    } catch (const std::exception&) {
      lacking[k] = true;
      continue;
    }
    body(kIsas[k]);
  }
  unsetenv("CLUSTERCL_CPU");
}

// What main returns.
inline int finish() {
  for (int k = 0; k < 3; ++k)
    if (lacking[k]) std::printf("skipped: this CPU has no %s\n", kIsas[k]);
  std::printf(failures ? "%d failures\n" : "ok\n", failures);
  return failures != 0;
}

}  // namespace clustercl::test
