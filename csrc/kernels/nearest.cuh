// The nearest few of a row: lists in the registers of a thread, put together among neighbouring lanes.
//
// Order: by (distance, id), so that neither the order in which threads find them nor how columns are shared matters.
#pragma once

#include "common.cuh"
#include "linkage.h"

namespace clustercl {

template <class D>
struct NearestFew {
  D distance[kCandidates];
  std::int32_t id[kCandidates];

  __device__ NearestFew() {
#pragma unroll
    for (int k = 0; k < kCandidates; ++k) {
      distance[k] = static_cast<D>(INFINITY);
      id[k] = -1;
    }
  }

  __device__ static bool before(D x, std::int32_t i, D y, std::int32_t j) { return x < y || (x == y && i < j); }

  // An infinite distance is none. False, and nothing told, where the list is full of nearer ones.
  __device__ bool insert(D x, std::int32_t i) {
    if (!before(x, i, distance[kCandidates - 1], id[kCandidates - 1])) return false;
#pragma unroll
    for (int k = 0; k < kCandidates; ++k) {
      if (!before(x, i, distance[k], id[k])) continue;
      const D y = distance[k];
      const std::int32_t j = id[k];
      distance[k] = x;
      id[k] = i;
      x = y;
      i = j;
    }
    return true;
  }

  __device__ void drop_first() {
#pragma unroll
    for (int k = 0; k + 1 < kCandidates; ++k) {
      distance[k] = distance[k + 1];
      id[k] = id[k + 1];
    }
    distance[kCandidates - 1] = static_cast<D>(INFINITY);
    id[kCandidates - 1] = -1;
  }
};

// give(k, distance, id) in all of `lanes` neighbouring lanes, for the k-th nearest of their lists, which share no id.
template <class D, class Give>
__device__ void put_together(NearestFew<D> list, int lanes, const Give& give) {
  for (int k = 0; k < kCandidates; ++k) {
    D distance = list.distance[0];
    std::int32_t id = list.id[0];
    for (int step = lanes / 2; step > 0; step /= 2) {
      const D x = shuffle_xor(distance, step);
      const std::int32_t i = shuffle_xor(id, step);
      if (NearestFew<D>::before(x, i, distance, id)) {
        distance = x;
        id = i;
      }
    }
    if (id >= 0 && list.id[0] == id) list.drop_first();
    give(k, distance, id);
  }
}

}  // namespace clustercl
