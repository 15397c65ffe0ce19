// The scans of linkage.h, compiled once per instruction set.
#include "linkage.h"

#include "distance_tile.h"
#include "simd.h"

namespace clustercl::CLUSTERCL_ISA {

namespace {

// As in linkage_parts.h, which plain code includes.
inline void take(Nearest& nearest, double distance, std::int64_t id) {
  if (distance < nearest.distance || (distance == nearest.distance && id < nearest.id)) {
    nearest.bound = nearest.distance;
    nearest.distance = distance;
    nearest.id = id;
  } else if (distance < nearest.bound) {
    nearest.bound = distance;
  }
}

inline double ward(double size_a, double size_b, double square) {
  return 2.0 * size_a * size_b / (size_a + size_b) * square;
}

inline void insert(Listed& list, double distance, std::int64_t place) {
  insert_ascending(list.distance, list.place, kCandidates - 1, distance, static_cast<std::int32_t>(place));
}

}  // namespace

void ward_nearest(const double* centroids, const double* sizes, std::int64_t padded, const std::int64_t* rows,
                  std::int64_t row_count, const std::int64_t* columns, std::int64_t column_count, Nearest* nearest) {
  // 32 KiB of columns stay in the first-level cache while the rows pass over them; a multiple of the tile.
  const std::int64_t fit = 4096 / padded / kTileColumns * kTileColumns;
  const std::int64_t block = fit < kTileColumns ? kTileColumns : fit;
  for (std::int64_t from = 0; from < column_count; from += block) {
    const std::int64_t to = from + block < column_count ? from + block : column_count;
    for (std::int64_t i = 0; i < row_count; i += kTileRows) {
      const int height = static_cast<int>(row_count - i < kTileRows ? row_count - i : kTileRows);
      const double* a[kTileRows];
      for (int r = 0; r < height; ++r) a[r] = centroids + rows[i + r] * padded;
      for (std::int64_t j = from; j < to; j += kTileColumns) {
        const int width = static_cast<int>(to - j < kTileColumns ? to - j : kTileColumns);
        const double* b[kTileColumns];
        for (int c = 0; c < width; ++c) b[c] = centroids + columns[j + c] * padded;
        distances(a, height, b, width, padded, as_it_is, [&](int r, const double* squares) {
          const std::int64_t row = rows[i + r];
          for (int c = 0; c < width; ++c) {
            const std::int64_t column = columns[j + c];
            if (row != column) take(nearest[i + r], ward(sizes[row], sizes[column], squares[c]), column);
          }
        });
      }
    }
  }
}

double ward_distance(const double* centroids, const double* sizes, std::int64_t padded, std::int64_t a, std::int64_t b) {
  const double* x = centroids + a * padded;
  const double* y = centroids + b * padded;
  double square;
  distance_tile<1, 1>(&x, &y, padded, &square);
  return ward(sizes[a], sizes[b], square);
}

void row_squares(const double* rows, std::int64_t padded, std::int64_t row, const std::int64_t* columns,
                 std::int64_t column_count, double* out) {
  const double* a = rows + row * padded;
  for (std::int64_t j = 0; j < column_count; j += kTileColumns) {
    const int width = static_cast<int>(column_count - j < kTileColumns ? column_count - j : kTileColumns);
    const double* b[kTileColumns];
    for (int c = 0; c < width; ++c) b[c] = rows + columns[j + c] * padded;
    distances(&a, 1, b, width, padded, as_it_is, [&](int, const double* squares) {
      for (int c = 0; c < width; ++c) out[j + c] = squares[c];
    });
  }
}

void row_screen(const float* rows, std::int64_t padded, std::int64_t row, const std::int64_t* columns,
                std::int64_t column_count, float* out) {
  constexpr int kColumns = 8;
  const float* a = rows + row * padded;
  const std::int64_t whole = padded / kLanes<float> * kLanes<float>;
  for (std::int64_t j = 0; j < column_count; j += kColumns) {
    const int width = static_cast<int>(column_count - j < kColumns ? column_count - j : kColumns);
    const float* b[kColumns];
    for (int c = 0; c < kColumns; ++c) b[c] = rows + columns[j + (c < width ? c : 0)] * padded;
    Simd<float>::V sum[kColumns] = {};
    for (std::int64_t f = 0; f < whole; f += kLanes<float>) {
      const auto x = load(a + f);
      for (int c = 0; c < kColumns; ++c) {
        const auto difference = x - load(b[c] + f);
        sum[c] = fma(difference, difference, sum[c]);
      }
    }
    for (int c = 0; c < width; ++c) {
      float rest = total<float>(sum[c]);
      for (std::int64_t f = whole; f < padded; ++f) rest += (a[f] - b[c][f]) * (a[f] - b[c][f]);
      out[j + c] = rest;
    }
  }
}

template <class T>
void condensed_nearest(const T* condensed, std::int64_t m, const double* weights, std::int64_t begin, std::int64_t end,
                       double* limit, Listed* lists) {
  constexpr int last = kCandidates - 1;
  for (std::int64_t i = begin; i < end; ++i) {
    if (weights[i] == 0) continue;
    const T* row = condensed + condensed_offset(i, m);
    Listed& own = lists[i];
    const Double8 weight = Double8::all(weights[i] * (1.0 + 1e-15));  // rounded up: what follows only sorts out
    const auto look = [&](std::int64_t j) {
      const double distance = unpack(row[j]) / (weights[i] * weights[j]);
      // i and j grow, so that an equal distance never replaces the smaller place.
      if (distance < limit[i]) {
        insert(own, distance, j);
        limit[i] = own.distance[last];
      }
      if (distance < limit[j]) {
        insert(lists[j], distance, i);
        limit[j] = lists[j].distance[last];
      }
    };
    Double8 own_limit = Double8::all(limit[i]);
    std::int64_t j = i + 1;
    for (; j + 8 <= m; j += 8) {
      // entry / weight < limit; the limits of those who are not looking are -1. A weight of 0, dead, gives 0 or NaN.
      const Double8 there = Double8::load(limit + j), both = if_less(own_limit, there, there, own_limit);
      unsigned near = less(Double8::load(row + j), both * (weight * Double8::load(weights + j)));
      if (near == 0) continue;
      for (; near != 0; near &= near - 1) look(j + __builtin_ctz(near));
      own_limit = Double8::all(limit[i]);
    }
    for (; j < m; ++j)
      if (weights[j] != 0) look(j);
  }
}

template void condensed_nearest(const double*, std::int64_t, const double*, std::int64_t, std::int64_t, double*, Listed*);
template void condensed_nearest(const Compact*, std::int64_t, const double*, std::int64_t, std::int64_t, double*, Listed*);

template <class T>
void condensed_nearest_of(const T* condensed, std::int64_t m, const double* weights, std::int64_t row,
                          const std::int64_t* places, std::int64_t count, Listed& list) {
  constexpr int last = kCandidates - 1;
  constexpr std::int64_t kAhead = 48;  // a column's entries lie far apart: each is fetched from memory, long before its turn
  const double weight = weights[row] * (1.0 + 1e-15);
  const auto at = [&](std::int64_t j) { return condensed + (j < row ? condensed_offset(j, m) + row : condensed_offset(row, m) + j); };
  for (std::int64_t k = 0; k < count; ++k) {
    if (k + kAhead < count) __builtin_prefetch(at(places[k + kAhead]));
    const std::int64_t j = places[k];
    if (j == row) continue;
    const double entry = unpack(*at(j));
    if (!(entry < list.distance[last] * (weight * weights[j]))) continue;
    const double distance = entry / (weights[row] * weights[j]);
    if (distance < list.distance[last]) insert(list, distance, j);
  }
}

template void condensed_nearest_of(const double*, std::int64_t, const double*, std::int64_t, const std::int64_t*,
                                   std::int64_t, Listed&);
template void condensed_nearest_of(const Compact*, std::int64_t, const double*, std::int64_t, const std::int64_t*,
                                   std::int64_t, Listed&);

}  // namespace clustercl::CLUSTERCL_ISA
