// Arrays that begin at a cache line, so that no register straddles two, or at a huge page; freed on their own.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace clustercl {

struct FreeAligned {
  std::align_val_t alignment{64};
  void operator()(void* p) const { ::operator delete[](p, alignment); }
};
template <class T>
using Buffer = std::unique_ptr<T[], FreeAligned>;

template <class T>
Buffer<T> buffer(std::int64_t size, std::size_t alignment = 64) {
  const FreeAligned free{std::align_val_t{alignment}};
  return Buffer<T>(static_cast<T*>(::operator new[](static_cast<std::size_t>(size) * sizeof(T), free.alignment)), free);
}

// For gigabytes that are walked along columns: with pages of 2 MiB, where the system has them, hardly a step misses the
// table of pages, and filling them for the first time is cheaper.
template <class T>
Buffer<T> huge_buffer(std::int64_t size) {
  constexpr std::size_t kPage = std::size_t{1} << 21;
  const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(T);
  if (bytes < 2 * kPage) return buffer<T>(size);
  Buffer<T> out = buffer<T>(size, kPage);
#if defined(MADV_HUGEPAGE)
  madvise(out.get(), bytes / kPage * kPage, MADV_HUGEPAGE);  // advice: all works without
#endif
  return out;
}

}  // namespace clustercl
