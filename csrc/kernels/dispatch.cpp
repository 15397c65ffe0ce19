#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace clustercl {
namespace {

bool supported(Isa isa) {
#if !defined(CLUSTERCL_PORTABLE)
  switch (isa) {
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::portable:
      return true;
  }
  return false;
#else
  return isa == Isa::portable;
#endif
}

}  // namespace

const char* isa_name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "portable";
}

Isa cpu_isa() {
  static const Isa best = supported(Isa::avx512) ? Isa::avx512 : supported(Isa::avx2) ? Isa::avx2 : Isa::portable;
  const char* forced = std::getenv("CLUSTERCL_CPU");  // read every time, so that a test can switch within one process
  if (forced == nullptr || *forced == '\0') return best;
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    if (std::string(forced) != isa_name(isa)) continue;
    if (supported(isa)) return isa;
    throw std::runtime_error("CLUSTERCL_CPU=" + std::string(forced) + ": this CPU does not have that instruction set; " +
                             "its best is " + isa_name(best));
  }
  throw std::runtime_error("CLUSTERCL_CPU must be portable, avx2 or avx512, got '" + std::string(forced) + "'");
}

}  // namespace clustercl
