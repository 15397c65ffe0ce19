// The nearest few of a row: lists in the registers of a thread, put together among neighbouring lanes; or one list of a whole warp.
//
// Order: by (distance, id), so that neither the order in which threads find them nor how columns are shared matters.
// Source of the warp's list: Johnson, Douze and Jegou 2017 (arXiv 1702.08734), WarpSelect.
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

// Of what a warp sees, a number each lane at a time: lane k holds the k-th nearest of all.
template <class D>
struct WarpFew {
  D distance = static_cast<D>(INFINITY), limit = static_cast<D>(INFINITY);  // limit: that of the last that counts
  std::int32_t id = -1, limit_id = -1;

  __device__ static bool before(D x, std::int32_t i, D y, std::int32_t j) { return NearestFew<D>::before(x, i, y, j); }

  // Whether this lane's would count. An infinite distance is none.
  __device__ bool counts(D x, std::int32_t i) const { return i >= 0 && before(x, i, limit, limit_id); }

  // All lanes; i -1: nothing from this one.
  __device__ void offer(D x, std::int32_t i) {
    constexpr int kOneByOne = 6;  // more are sorted first
    const bool counted = counts(x, i);
    unsigned who = __ballot_sync(kAllLanes, counted);
    if (__popc(who) > kOneByOne) {
      merge(counted ? x : static_cast<D>(INFINITY), counted ? i : -1);
      return;
    }
    for (; who != 0; who &= who - 1) {
      const int source = __popc((who & (0 - who)) - 1);
      insert(shuffle(x, source), shuffle(i, source));
    }
  }

 private:
  __device__ void limit_changed() {
    limit = shuffle(distance, kCandidates - 1);
    limit_id = shuffle(id, kCandidates - 1);
  }

  __device__ void insert(D x, std::int32_t i) {
    const int lane = threadIdx.x % kWarp, lower = lane > 0 ? lane - 1 : 0;
    const D lower_distance = shuffle(distance, lower);
    const std::int32_t lower_id = shuffle(id, lower);
    if (before(x, i, distance, id)) {
      const bool here = lane == 0 || !before(x, i, lower_distance, lower_id);
      distance = here ? x : lower_distance;
      id = here ? i : lower_id;
    }
    limit_changed();
  }

  // Keeps the lower of two, or the higher, of this lane and the one at `other`.
  __device__ static void exchange(D& x, std::int32_t& i, int other, bool lower) {
    const D y = shuffle_xor(x, other);
    const std::int32_t j = shuffle_xor(i, other);
    if (lower ? before(y, j, x, i) : before(x, i, y, j)) {
      x = y;
      i = j;
    }
  }

  // By a bitonic sort of what is new; of it, turned round, and the list the lower of each two are the lowest of all.
  __device__ void merge(D x, std::int32_t i) {
    const int lane = threadIdx.x % kWarp;
    const bool empty = shuffle(id, 0) < 0;
    // Not unrolled: what is run once in a while waits for its instructions.
#pragma unroll 1
    for (int size = 2; size <= kWarp; size *= 2)
#pragma unroll 1
      for (int step = size / 2; step > 0; step /= 2) exchange(x, i, step, ((lane & step) == 0) == ((lane & size) == 0));
    if (empty) {
      distance = x;
      id = i;
    } else {
      const D turned = shuffle(x, kWarp - 1 - lane);
      const std::int32_t turned_id = shuffle(i, kWarp - 1 - lane);
      if (before(turned, turned_id, distance, id)) {
        distance = turned;
        id = turned_id;
      }
#pragma unroll 1
      for (int step = kWarp / 2; step > 0; step /= 2) exchange(distance, id, step, (lane & step) == 0);
    }
    limit_changed();
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
