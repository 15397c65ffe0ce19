// What both calls of the linkage share: names of methods, and the watch over a long clustering.
#pragma once

#include <cxxabi.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <exception>
#include <string>
#include <thread>

#include "../kernels/linkage.h"

namespace clustercl {

// Python before 3.14 that ends unwinds a daemon thread that asks for the GIL. Kernels and torch catch all that is thrown, and
// destructors let nothing through, which would abort the process: the thread stays here instead.
[[noreturn]] inline void wait_for_the_end() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// pybind11's gil_scoped_release takes the GIL back in its destructor.
template <class F>
void without_gil(const F& work) {
  PyThreadState* const state = PyEval_SaveThread();
  std::exception_ptr error;
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  try {
    PyEval_RestoreThread(state);
  } catch (const abi::__forced_unwind&) {
    wait_for_the_end();
  }
  if (error) std::rethrow_exception(error);
}

// Asked by the kernel without the GIL; ten times a second it takes the GIL, looks for Ctrl-C and tells the progress.
struct Watch {
  using Clock = std::chrono::steady_clock;
  pybind11::object progress;
  Clock::time_point next = Clock::now() + std::chrono::milliseconds(100);
  std::exception_ptr error = nullptr;

  void tell(const Effort& effort) const {
    if (!progress.is_none()) progress(effort.merges, effort.rounds, effort.distances);
  }

  static bool proceed(void* self, const Effort& effort) {
    Watch& watch = *static_cast<Watch*>(self);
    if (Clock::now() < watch.next) return true;
    try {
      const pybind11::gil_scoped_acquire gil;
      watch.ask(effort);
    } catch (const abi::__forced_unwind&) {
      wait_for_the_end();
    }
    watch.next = Clock::now() + std::chrono::milliseconds(100);
    return watch.error == nullptr;
  }

 private:
  void ask(const Effort& effort) {
    try {
      if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
      tell(effort);
    } catch (const abi::__forced_unwind&) {
      wait_for_the_end();
    } catch (...) {
      error = std::current_exception();
    }
  }
};

inline Linkage linkage_method_of(const std::string& name) {
  if (name == "ward") return Linkage::ward;
  if (name == "average") return Linkage::average;
  if (name == "complete") return Linkage::complete;
  if (name == "single") return Linkage::single;
  throw pybind11::value_error("linkage: method must be ward, average, complete or single, got '" + name + "'");
}

inline Metric linkage_metric_of(const std::string& name, Linkage method) {
  if (name != "euclidean" && (name != "cosine" || method == Linkage::ward))
    throw pybind11::value_error("linkage: metric must be euclidean or, except for ward, cosine, got '" + name + "'");
  return name == "cosine" ? Metric::cosine : Metric::euclidean;
}

inline Entries entries_of(const std::string& name) {
  if (name == "float64") return Entries::full;
  if (name == "float32") return Entries::half;
  throw pybind11::value_error("linkage: dtype must be float64 or float32, got '" + name + "'");
}

}  // namespace clustercl
