// Which instruction set the CPU kernels use.
//
// Every *_cpu.cpp is compiled once per instruction set, each time into a namespace of its own (CLUSTERCL_ISA), and the
// caller picks one at run time, so that a binary built here runs on older machines too. Those files must not instantiate
// templates of the standard library: the linker keeps one copy of such a symbol, and it may be the AVX-512 one. Where
// CMakeLists.txt says CLUSTERCL_PORTABLE, as on ARM, there is one set, the compiler's own.
#pragma once

namespace clustercl {

enum class Isa { portable, avx2, avx512 };

// The best set that this CPU has, or the one that the environment variable CLUSTERCL_CPU (portable, avx2, avx512) forces.
// Throws std::runtime_error when the variable names an unknown set or one that this CPU lacks.
Isa cpu_isa();

const char* isa_name(Isa isa);

}  // namespace clustercl

#if defined(CLUSTERCL_PORTABLE)
#define CLUSTERCL_PER_ISA(...) namespace portable { __VA_ARGS__ }
#define CLUSTERCL_PICK(function) ::clustercl::picked(&portable::function)
namespace clustercl {
template <class Function>
Function picked(Function function) {
  cpu_isa();  // throws where one is forced that is not there
  return function;
}
}  // namespace clustercl
#else
#define CLUSTERCL_PER_ISA(...)     \
  namespace portable { __VA_ARGS__ } \
  namespace avx2 { __VA_ARGS__ }     \
  namespace avx512 { __VA_ARGS__ }
#define CLUSTERCL_PICK(function)                                              \
  (::clustercl::cpu_isa() == ::clustercl::Isa::avx512 ? &avx512::function     \
   : ::clustercl::cpu_isa() == ::clustercl::Isa::avx2 ? &avx2::function       \
                                                      : &portable::function)
#endif
