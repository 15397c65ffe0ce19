// The merging of linkage_join.h, compiled once per instruction set: entries are gathered into a few lines of cache, joined
// eight at a time, and put back.
#include "linkage_join.h"

#include "double8.h"

namespace clustercl::CLUSTERCL_ISA {

namespace {

constexpr int kChunk = 64;

template <Join join>
inline Double8 joined(Double8 x, Double8 y, Double8 share) {
  if (join == Join::sum) return x + y;
  if (join == Join::mean) return x + share * (y - x);
  return join == Join::largest ? if_less(x, y, y, x) : if_less(y, x, y, x);
}

// The lanes of the last eight that hold nothing: any number but a NaN or worse that slows the others down.
template <class T>
inline void clear_behind(T* x, int count) {
  for (int q = count; q % 8 != 0; ++q) x[q] = T{};
}

template <Join join, class T>
void within(T* own, std::int64_t k, double weight, const Joining& pairs, std::int64_t begin, std::int64_t end, bool fetch) {
  alignas(64) T x[kChunk], y[kChunk];
  const Double8 own_weight = Double8::all(weight);
  for (std::int64_t from = begin; from < end; from += kChunk) {
    const int count = static_cast<int>(end - from < kChunk ? end - from : kChunk);
    const std::int32_t *i = pairs.i + from, *j = pairs.j + from;
    if (fetch) {
      const int ahead = static_cast<int>(end - from < 2 * kChunk ? end - from : 2 * kChunk);
      for (int q = from == begin ? 0 : kChunk; q < ahead; ++q) {
        __builtin_prefetch(own + i[q], 1);
        __builtin_prefetch(own + j[q]);
      }
    }
    for (int q = 0; q < count; ++q) {
      x[q] = own[i[q]];
      y[q] = own[j[q]];
    }
    clear_behind(x, count);
    clear_behind(y, count);
    std::uint64_t near = 0;
    for (int q = 0; q < count; q += 8) {
      const Double8 z = joined<join>(Double8::load(x + q), Double8::load(y + q), Double8::load(pairs.share + from + q));
      near |= std::uint64_t{less(Double8::load(pairs.limit + from + q) * own_weight, z) ^ 0xffu} << q;
      z.store(x + q);
    }
    for (int q = 0; q < count; ++q) own[i[q]] = x[q];
    if (count < kChunk) near &= (std::uint64_t{1} << count) - 1;
    for (; near != 0; near &= near - 1) {
      const int q = __builtin_ctzll(near);
      note(pairs, from + q, x[q], weight, k);
    }
  }
}

template <Join join, class T>
void about(T* entries, T* own, std::int64_t k, double weight, const Joining& pairs, const Around& around, std::int64_t all,
           bool fetch) {
  alignas(64) T x[kChunk], y[kChunk];
  alignas(64) double limit[kChunk], share[kChunk];
  const Double8 own_weight = Double8::all(weight);
  for (std::int64_t from = 0; from < all; from += kChunk) {
    const int count = static_cast<int>(all - from < kChunk ? all - from : kChunk);
    const std::int64_t* start = around.from + from;
    const std::int32_t *j = around.j + from, *pair = around.pair + from;
    if (fetch) {
      const int ahead = static_cast<int>(all - from < 2 * kChunk ? all - from : 2 * kChunk);
      for (int q = from == 0 ? 0 : kChunk; q < ahead; ++q) {
        __builtin_prefetch(entries + start[q] + k, 1);
        __builtin_prefetch(own + j[q]);
      }
    }
    for (int q = 0; q < count; ++q) {
      x[q] = entries[start[q] + k];
      y[q] = own[j[q]];
      limit[q] = pairs.limit[pair[q]];
    }
    for (int q = 0; q < count && join == Join::mean; ++q) share[q] = pairs.share[pair[q]];
    clear_behind(x, count);
    clear_behind(y, count);
    clear_behind(limit, count);
    if (join == Join::mean) clear_behind(share, count);
    std::uint64_t near = 0;
    for (int q = 0; q < count; q += 8) {
      const Double8 z = joined<join>(Double8::load(x + q), Double8::load(y + q), join == Join::mean ? Double8::load(share + q) : Double8::zero());
      near |= std::uint64_t{less(Double8::load(limit + q) * own_weight, z) ^ 0xffu} << q;
      z.store(x + q);
    }
    for (int q = 0; q < count; ++q) entries[start[q] + k] = x[q];
    if (count < kChunk) near &= (std::uint64_t{1} << count) - 1;
    for (; near != 0; near &= near - 1) {
      const int q = __builtin_ctzll(near);
      note(pairs, pair[q], x[q], weight, k);
    }
  }
}

template <Join join, class T>
void beyond(T* row_i, const T* row_j, std::int64_t begin, std::int64_t end, const double* staying, const Joining& pairs,
            std::int64_t pair) {
  const Double8 zero = Double8::zero(), share = Double8::all(pairs.share[pair]);
  std::int64_t k = begin;
  for (; k + 8 <= end; k += 8) {
    const Double8 x = Double8::load(row_i + k), weight = Double8::load(staying + k);
    const Double8 z = joined<join>(x, Double8::load(row_j + k), share);
    unsigned near = less(Double8::all(pairs.limit[pair]) * weight, z) ^ 0xffu;
    if_less(zero, weight, z, x).store(row_i + k);
    for (; near != 0; near &= near - 1) {
      const std::int64_t at = k + __builtin_ctz(near);
      if (staying[at] > 0) note(pairs, pair, row_i[at], staying[at], at);
    }
  }
  for (; k < end; ++k) {
    if (staying[k] == 0) continue;
    alignas(64) double x[8] = {unpack(row_i[k])}, y[8] = {unpack(row_j[k])};
    joined<join>(Double8::load(x), Double8::load(y), share).store(x);
    pack(x[0], row_i[k]);
    if (x[0] <= pairs.limit[pair] * staying[k]) note(pairs, pair, row_i[k], staying[k], k);
  }
}

// What lies a row apart is gathered first, in loads none of which waits for another, so that several are under way at once.
template <Join join, class T>
void few(T* entries, std::int64_t m, const double* staying, const Joining& pairs, std::int64_t count, T* scratch) {
  T *const x = scratch, *const y = scratch + m;
  const auto next = [m](std::int64_t k) { return m - 2 - k; };  // from entry (k, j) to (k + 1, j)
  for (std::int64_t pair = 0; pair < count; ++pair) {
    const std::int64_t i = pairs.i[pair], j = pairs.j[pair];
    const T* row = entries + condensed_offset(0, m);
    for (std::int64_t k = 0; k < i; row += next(k++)) {
      x[k] = row[i];
      y[k] = row[j];
    }
    T* const own = entries + condensed_offset(i, m);
    for (std::int64_t k = i; k < j; row += next(k++)) y[k] = row[j];
    beyond<join, T>(x, y, 0, i, staying, pairs, pair);
    beyond<join, T>(own, y, i + 1, j, staying, pairs, pair);
    beyond<join, T>(own, row, j + 1, m, staying, pairs, pair);
    T* to = entries + condensed_offset(0, m);
    for (std::int64_t k = 0; k < i; to += next(k++)) to[i] = x[k];
  }
}

}  // namespace

// Sums are exact doubles, means are what half the memory keeps (linkage_condensed.cpp).
#define CLUSTERCL_JOIN(T, AVERAGE)                                                                                        \
  template <>                                                                                                             \
  void join_within(Join join, T* own, std::int64_t k, double weight, const Joining& pairs, std::int64_t begin,            \
                   std::int64_t end, bool fetch) {                                                                        \
    (join == Join::AVERAGE   ? within<Join::AVERAGE, T>                                                                   \
     : join == Join::largest ? within<Join::largest, T>                                                                   \
                             : within<Join::smallest, T>)(own, k, weight, pairs, begin, end, fetch);                      \
  }                                                                                                                       \
  template <>                                                                                                             \
  void join_around(Join join, T* entries, T* own, std::int64_t k, double weight, const Joining& pairs,                    \
                   const Around& around, std::int64_t count, bool fetch) {                                                \
    (join == Join::AVERAGE   ? about<Join::AVERAGE, T>                                                                    \
     : join == Join::largest ? about<Join::largest, T>                                                                    \
                             : about<Join::smallest, T>)(entries, own, k, weight, pairs, around, count, fetch);           \
  }                                                                                                                       \
  template <>                                                                                                             \
  void join_beyond(Join join, T* row_i, const T* row_j, std::int64_t begin, std::int64_t end, const double* staying,      \
                   const Joining& pairs, std::int64_t pair) {                                                             \
    (join == Join::AVERAGE   ? beyond<Join::AVERAGE, T>                                                                   \
     : join == Join::largest ? beyond<Join::largest, T>                                                                   \
                             : beyond<Join::smallest, T>)(row_i, row_j, begin, end, staying, pairs, pair);                \
  }                                                                                                                       \
  template <>                                                                                                             \
  void join_few(Join join, T* entries, std::int64_t m, const double* staying, const Joining& pairs, std::int64_t count,   \
                T* scratch) {                                                                                             \
    (join == Join::AVERAGE   ? few<Join::AVERAGE, T>                                                                      \
     : join == Join::largest ? few<Join::largest, T>                                                                      \
                             : few<Join::smallest, T>)(entries, m, staying, pairs, count, scratch);                       \
  }
CLUSTERCL_JOIN(double, sum)
CLUSTERCL_JOIN(Compact, mean)

}  // namespace clustercl::CLUSTERCL_ISA
