// How many floating-point operations per second the cores reach with fused multiply-adds alone: what benchmarks divide by.
//
// Every thread multiplies and adds registers that never leave the core, as many independent chains as hide the latency.
#pragma once

#include <cstdint>

#include "dispatch.h"
#include "parallel.h"

namespace clustercl {

// Operations per second of float32, two per multiply-add, with all threads at once; the best of `rounds` measurements.
double fma_ceiling(const Parallel& parallel, int rounds);

CLUSTERCL_PER_ISA(
    // Does `steps` steps and returns the operations they took; result keeps the compiler from leaving them out.
    double multiply_add(std::int64_t steps, float* result);)

}  // namespace clustercl
