// A number in [0, 1/2] in 32 bits: what a condensed matrix of half the memory holds.
//
// A float gives 8 bits to its exponent and 1 to its sign. Distances, divided by a power of two beyond the largest, need
// fewer: here are 6 bits of exponent and 26 of mantissa, 8 times as fine, so that means that are rounded at every one of
// 20,000 merges still keep heights to 1e-6 (measured: 3e-7). Numbers of 27 digits, 0 among them, are exact, what lies below
// about 2^-64 becomes 0, and order is kept: x <= y gives code(x) <= code(y).
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define CLUSTERCL_HOST_DEVICE __host__ __device__
#else
#define CLUSTERCL_HOST_DEVICE
#endif

namespace clustercl {

struct Compact {
  std::uint32_t code;  // 0 for 0, else the bits of a double less those of 2^-64, without the last 26
};

// `static`: these are compiled once per instruction set, too.
constexpr double kCompactLeast = 0x1p-64;
constexpr std::int64_t kCompactLeastBits = std::int64_t{1023 - 64} << 52;
constexpr int kCompactShift = 26;
constexpr std::int64_t kCompactHalf = std::int64_t{1} << (kCompactShift - 1);  // to round to the nearest

CLUSTERCL_HOST_DEVICE static inline double unpack(double entry) { return entry; }
CLUSTERCL_HOST_DEVICE static inline double unpack(Compact entry) {
  const std::int64_t bits = (std::int64_t{entry.code} << kCompactShift) + kCompactLeastBits;
  return __builtin_bit_cast(double, bits & -static_cast<std::int64_t>(entry.code != 0));
}

CLUSTERCL_HOST_DEVICE static inline void pack(double x, double& entry) { entry = x; }
CLUSTERCL_HOST_DEVICE static inline void pack(double x, Compact& entry) {
  const std::int64_t above = __builtin_bit_cast(std::int64_t, x) - (kCompactLeastBits - kCompactHalf);
  entry.code = static_cast<std::uint32_t>((above < 0 ? 0 : above) >> kCompactShift);
}

}  // namespace clustercl
