// Arrays that begin at a cache line, so that no register straddles two; freed on their own.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace clustercl {

struct FreeAligned {
  static constexpr std::align_val_t kAlignment{64};
  void operator()(void* p) const { ::operator delete[](p, kAlignment); }
};
template <class T>
using Buffer = std::unique_ptr<T[], FreeAligned>;

template <class T>
Buffer<T> buffer(std::int64_t size) {
  return Buffer<T>(static_cast<T*>(::operator new[](static_cast<std::size_t>(size) * sizeof(T), FreeAligned::kAlignment)));
}

}  // namespace clustercl
