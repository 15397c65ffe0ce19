// How a launcher divides the memory that its caller hands over: first without memory, for the size, then with it.
#pragma once

#include <cstdint>

namespace clustercl {

// The parts of a workspace, one after the other.
class Parts {
 public:
  explicit Parts(void* begin) : begin_(static_cast<unsigned char*>(begin)) {}
  template <class T>
  T* take(std::int64_t count) {
    T* out = begin_ == nullptr ? nullptr : reinterpret_cast<T*>(begin_ + used_);
    used_ += (count * static_cast<std::int64_t>(sizeof(T)) + 255) / 256 * 256;
    return out;
  }
  std::int64_t used() const { return used_; }

 private:
  unsigned char* begin_;
  std::int64_t used_ = 0;
};

}  // namespace clustercl
