// Arrays for the tests of CUDA kernels: on the GPU, or plain ones of exactly the same size for the host executor.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace clustercl::test {

#if defined(CLUSTERCL_SIMT)

template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& values) : values_(values) {}
  T* get() { return values_.data(); }
  std::vector<T> back() const { return values_; }

 private:
  std::vector<T> values_;
};

inline void other_order(bool on) { simt::reverse = on; }
inline void refuse_together(int every) { simt::refuse = every; }
inline std::int64_t waits() { return simt::waits; }
inline std::int64_t running() { return simt::running; }

#else

inline void must(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& values) : size_(values.size()) {
    must(cudaMalloc(reinterpret_cast<void**>(&data_), size_ * sizeof(T)));
    must(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Device() { cudaFree(data_); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  T* get() { return data_; }
  std::vector<T> back() const {
    std::vector<T> out(size_);
    must(cudaMemcpy(out.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  std::size_t size_;
  T* data_ = nullptr;
};

// A GPU runs threads in an order of its own.
inline void other_order(bool) {}
inline std::int64_t waits() { return 0; }  // not counted there
inline std::int64_t running() { return 0; }

#endif

}  // namespace clustercl::test
