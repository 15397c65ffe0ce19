#include "simt.h"

#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

Position position;
bool reverse = false;
std::int64_t waits = 0;
std::int64_t running = 0;
std::int64_t refuse = 0;
std::int64_t asked = 0;

namespace {

constexpr std::size_t kStack = 256 * 1024;
constexpr int kLanes = 32;
constexpr std::size_t kSlot = 64;  // bytes that a lane may give at once

struct Fiber {
  ucontext_t context;
  unsigned char* stack = nullptr;
  int number = 0;
  bool done = false;
};

// Threads that wait for each other, again and again.
struct Meeting {
  int members = 0, arrived = 0;
  std::int64_t round = 0;
};

struct Warp {
  Meeting meeting;
  // Two sets in turn: a lane reads one while a faster one already writes the other.
  unsigned char given[2][kLanes * kSlot];
  std::int64_t exchanges[kLanes] = {};
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Meeting all;
  std::unique_ptr<unsigned char[]> shared;
  ucontext_t scheduler;
  Fiber* current = nullptr;
  const std::function<void()>* body = nullptr;
  bool moved = false;  // something happened since the scheduler last looked
  void* fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_size = 0;
};
Block* block = nullptr;

void pause() {
  Fiber& self = *block->current;
#if defined(__SANITIZE_ADDRESS__)
  void* mine = nullptr;
  __sanitizer_start_switch_fiber(self.done ? nullptr : &mine, block->scheduler_stack, block->scheduler_size);
#endif
  swapcontext(&self.context, &block->scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(mine, &block->scheduler_stack, &block->scheduler_size);
#endif
}

void meet(Meeting& meeting) {
  const std::int64_t round = meeting.round;
  block->moved = true;
  if (++meeting.arrived == meeting.members) {
    meeting.arrived = 0;
    ++meeting.round;
    return;
  }
  while (meeting.round == round) pause();
  block->moved = true;
}

// Threads that have ended no longer keep a barrier waiting.
void leave(Meeting& meeting) {
  --meeting.members;
  if (meeting.members > 0 && meeting.arrived == meeting.members) {
    meeting.arrived = 0;
    ++meeting.round;
  }
}

void start() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_stack, &block->scheduler_size);
#endif
  Fiber& self = *block->current;
  (*block->body)();
  self.done = true;
  block->moved = true;
  leave(block->all);
  leave(block->warps[self.number / kLanes].meeting);
  pause();
}

void resume(Fiber& fiber) {
  block->current = &fiber;
  position.thread = dim3(static_cast<unsigned>(fiber.number), 0, 0);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&block->fake_stack, fiber.stack, kStack);
#endif
  swapcontext(&block->scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(block->fake_stack, nullptr, nullptr);
#endif
}

void run_block(int threads, std::size_t shared_bytes) {
  block->all = Meeting{threads, 0, 0};
  block->warps.assign((threads + kLanes - 1) / kLanes, Warp{});
  for (std::size_t w = 0; w < block->warps.size(); ++w)
    block->warps[w].meeting.members = std::min(kLanes, threads - static_cast<int>(w) * kLanes);
  block->shared.reset(new unsigned char[shared_bytes]);
  std::memset(block->shared.get(), 0xa5, shared_bytes);
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = block->fibers[t];
    fiber.number = t;
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
    fiber.context.uc_stack.ss_size = 0;  // or AddressSanitizer clears the whole stack at every change; it is told of those itself
  }
  for (int left = threads; left > 0;) {
    block->moved = false;
    left = 0;
    for (int k = 0; k < threads; ++k) {
      Fiber& fiber = block->fibers[reverse ? threads - 1 - k : k];
      if (!fiber.done) resume(fiber);
      left += !fiber.done;
    }
    if (left > 0 && !block->moved) throw std::runtime_error("simt: threads wait for others that never come");
  }
}

}  // namespace

// Of a block, on the smallest cards that run the kernels tested here, 8.6 and 8.9.
constexpr std::size_t kMostShared = 99 * 1024;

cudaError_t run(dim3 grid, int threads, std::size_t shared_bytes, const std::function<void()>& body) {
  if (threads < 1 || threads > 1024 || grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.y > 65535 || grid.z > 65535 ||
      shared_bytes > kMostShared)
    return cudaErrorInvalidValue;
  ++running;
  Block own;
  block = &own;
  own.body = &body;
  static std::vector<std::unique_ptr<unsigned char[]>> stacks;  // kept from one launch to the next
  while (static_cast<int>(stacks.size()) < threads) stacks.emplace_back(new unsigned char[kStack]);
  own.fibers.resize(threads);
  for (int t = 0; t < threads; ++t) own.fibers[t].stack = stacks[t].get();
  position.block_size = dim3(static_cast<unsigned>(threads));
  position.grid = grid;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        position.block = dim3(x, y, z);
        run_block(threads, shared_bytes);
      }
  block = nullptr;
  return cudaSuccess;
}

void* shared() { return block->shared.get(); }

void barrier() { meet(block->all); }

int lane() { return block->current->number % kLanes; }

const unsigned char* exchange(const void* mine, std::size_t size) {
  Warp& warp = block->warps[block->current->number / kLanes];
  if (size > kSlot || warp.meeting.members != kLanes)
    throw std::runtime_error("simt: a warp operation needs all 32 lanes and at most 64 bytes of each");
  unsigned char* given = warp.given[warp.exchanges[lane()]++ % 2];
  std::memcpy(given + static_cast<std::size_t>(lane()) * size, mine, size);
  meet(warp.meeting);
  return given;
}

}  // namespace simt

namespace clustercl {

namespace {

float element(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float out;
  std::memcpy(&out, &wide, sizeof out);
  return out;
}

// Of A (16, K) and B (K, 8), spread over the lanes: element (row, k) and (k, column).
template <int K, class Of>
void multiply(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const Of& of) {
  struct Given {
    std::uint32_t a[4], b[2];
  } mine;
  std::memcpy(mine.a, a, sizeof mine.a);
  std::memcpy(mine.b, b, sizeof mine.b);
  const unsigned char* all = simt::exchange(&mine, sizeof mine);
  const auto lane_of = [&](int lane) {
    Given given;
    std::memcpy(&given, all + static_cast<std::size_t>(lane) * sizeof(Given), sizeof given);
    return given;
  };
  const int g = simt::lane() / 4, t = simt::lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
    double sum = c[i];
    for (int k = 0; k < K; ++k) sum += of(lane_of, row, k, column);
    c[i] = static_cast<float>(sum);
  }
}

}  // namespace

namespace {

template <class ToNumber>
void multiply_pairs(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const ToNumber& number) {
  multiply<16>(c, a, b, [&](const auto& lane_of, int row, int k, int column) {
    const auto left = lane_of(row % 8 * 4 + k % 8 / 2), right = lane_of(column * 4 + k % 8 / 2);
    const std::uint32_t x = left.a[row / 8 + 2 * (k / 8)], y = right.b[k / 8];
    return static_cast<double>(number(static_cast<std::uint16_t>(x >> 16 * (k % 2)))) *
           number(static_cast<std::uint16_t>(y >> 16 * (k % 2)));
  });
}

}  // namespace

void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) { multiply_pairs(c, a, b, element); }

void mma_f16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  multiply_pairs(c, a, b, [](std::uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    return static_cast<float>(bits & 0x8000 ? -size : size);  // no test multiplies what is not finite
  });
}

void mma_tf32(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  multiply<8>(c, a, b, [](const auto& lane_of, int row, int k, int column) {
    // The hardware reads 19 bits of each.
    const std::uint32_t x = lane_of(row % 8 * 4 + k % 4).a[row / 8 + 2 * (k / 4)] & 0xffffe000u;
    const std::uint32_t y = lane_of(column * 4 + k % 4).b[k / 4] & 0xffffe000u;
    float left, right;
    std::memcpy(&left, &x, sizeof left);
    std::memcpy(&right, &y, sizeof right);
    return static_cast<double>(left) * right;
  });
}

void load_transposed(std::uint32_t (&out)[2], const void* row) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) throw std::runtime_error("simt: ldmatrix wants rows aligned to 16 bytes");
  const unsigned char* all = simt::exchange(&row, sizeof row);
  const int g = simt::lane() / 4, t = simt::lane() % 4;
  for (int m = 0; m < 2; ++m) {
    std::uint16_t pair[2];
    for (int h = 0; h < 2; ++h) {
      const void* from;
      std::memcpy(&from, all + static_cast<std::size_t>(8 * m + 2 * t + h) * sizeof from, sizeof from);
      std::memcpy(&pair[h], static_cast<const unsigned char*>(from) + 2 * g, sizeof pair[h]);
    }
    out[m] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
  }
}

// To the nearest of 10 bits of mantissa, ties away from 0.
std::uint32_t to_tf32(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

// To the nearest, ties to even, of numbers below 65520.
std::uint16_t to_f16(float x) {
  const double size = std::fabs(static_cast<double>(x));
  int exponent = -14;
  if (size >= 0x1p-14) std::frexp(size, &exponent), --exponent;
  const auto digits = static_cast<int>(std::nearbyint(std::ldexp(size, 10 - exponent)));  // with the leading one, if any
  const int bits = ((exponent + 14) << 10) + digits;
  return static_cast<std::uint16_t>(bits | (std::signbit(x) ? 0x8000 : 0));
}

}  // namespace clustercl
