// Launches and copies on one stream; after the first error nothing more is begun.
#pragma once

#include "common.cuh"

namespace clustercl {

struct Launches {
  cudaStream_t stream;
  cudaError_t error = cudaSuccess;

  bool fine() const { return error == cudaSuccess; }

  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::size_t shared, Arguments... arguments) {
    if (fine() && blocks > 0)
      error = clustercl::launch(kernel, dim3(static_cast<unsigned>(blocks)), threads, shared, stream, arguments...);
  }

  // At most `most` blocks. False, and nothing begun, where they cannot run all at once.
  template <class... Parameters, class... Arguments>
  bool launch_together(void (*kernel)(Parameters...), std::int64_t most, int threads, std::size_t shared, Arguments... arguments) {
    if (!fine()) return true;
    const cudaError_t found = clustercl::launch_together(kernel, most, threads, shared, stream, arguments...);
    if (refused(found)) return false;
    error = found;
    return true;
  }

  // Waits for all that was begun.
  template <class T>
  void read(T* host, const T* device, std::int64_t count) {
    if (fine() && count > 0)
      error = cudaMemcpyAsync(host, device, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyDeviceToHost, stream);
    wait();
  }

  // From memory that the host may change at once: waits too.
  template <class T>
  void write(T* device, const T* host, std::int64_t count) {
    if (fine()) error = cudaMemcpyAsync(device, host, static_cast<std::size_t>(count) * sizeof(T), cudaMemcpyHostToDevice, stream);
    wait();
  }

  void wait() {
    if (fine()) error = cudaStreamSynchronize(stream);
  }
};

// Blocks of `threads` for `count` threads of work, at most `most`: more is done by the same threads one after the other.
inline std::int64_t blocks_for(std::int64_t count, int threads, std::int64_t most = 1024) {
  const std::int64_t wanted = (count + threads - 1) / threads;
  return wanted < most ? wanted : most;
}
inline dim3 grid_for(std::int64_t count, int threads, std::int64_t most) {
  return dim3(static_cast<unsigned>(blocks_for(count, threads, most)));
}

}  // namespace clustercl
