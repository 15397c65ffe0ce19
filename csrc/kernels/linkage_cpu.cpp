// The scans of linkage.h, compiled once per instruction set.
#include "linkage.h"

#include "distance_tile.h"

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

// Rows [begin, end) of a condensed matrix; kSums: entries are sums over pairs.
template <bool kSums>
void nearest_in(const double* condensed, std::int64_t m, const double* sizes, const unsigned char* alive,
                std::int64_t begin, std::int64_t end, double* best, double* bound, double* id) {
  alignas(64) static const double lanes[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  for (std::int64_t i = begin; i < end; ++i) {
    if (!alive[i]) continue;
    const double* row = condensed + condensed_offset(i, m);
    const Double8 self = Double8::all(static_cast<double>(i)), size = Double8::all(kSums ? sizes[i] : 1.0);
    Double8 row_best = Double8::all(kInfinity), row_bound = row_best, row_id = Double8::all(-1.0);
    std::int64_t j = i + 1;
    for (; j + 8 <= m; j += 8) {
      Double8 d = Double8::load(row + j);
      if (kSums) d = d / (size * Double8::load(sizes + j));
      // As seen from j: i grows, so an equal distance never replaces the smaller id.
      const Double8 old = Double8::load(best + j), old_bound = Double8::load(bound + j);
      if_less(d, old, old, if_less(d, old_bound, d, old_bound)).store(bound + j);
      if_less(d, old, self, Double8::load(id + j)).store(id + j);
      if_less(d, old, d, old).store(best + j);
      // As seen from i: the same per lane, j grows.
      const Double8 column = Double8::all(static_cast<double>(j)) + Double8::load(lanes);
      row_bound = if_less(d, row_best, row_best, if_less(d, row_bound, d, row_bound));
      row_id = if_less(d, row_best, column, row_id);
      row_best = if_less(d, row_best, d, row_best);
    }
    Nearest nearest{best[i], bound[i], static_cast<std::int64_t>(id[i])};
    double lane_best[8], lane_bound[8], lane_id[8];
    row_best.store(lane_best);
    row_bound.store(lane_bound);
    row_id.store(lane_id);
    for (int lane = 0; lane < 8; ++lane) {
      if (lane_best[lane] < kInfinity) take(nearest, lane_best[lane], static_cast<std::int64_t>(lane_id[lane]));
      if (lane_bound[lane] < nearest.bound) nearest.bound = lane_bound[lane];
    }
    for (; j < m; ++j) {
      const double d = kSums ? row[j] / (sizes[i] * sizes[j]) : row[j];
      if (d < best[j]) {
        bound[j] = best[j];
        best[j] = d;
        id[j] = static_cast<double>(i);
      } else if (d < bound[j]) {
        bound[j] = d;
      }
      if (d < kInfinity) take(nearest, d, j);
    }
    best[i] = nearest.distance;
    bound[i] = nearest.bound;
    id[i] = static_cast<double>(nearest.id);
  }
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
        distances(a, height, b, width, padded, [&](int r, int c, double square) {
          const std::int64_t row = rows[i + r], column = columns[j + c];
          if (row != column) take(nearest[i + r], ward(sizes[row], sizes[column], square), column);
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
    distances(&a, 1, b, width, padded, [&](int, int c, double square) { out[j + c] = square; });
  }
}

void condensed_nearest(const double* condensed, std::int64_t m, const double* sizes, const unsigned char* alive,
                       std::int64_t begin, std::int64_t end, double* best, double* bound, double* id) {
  if (sizes != nullptr) return nearest_in<true>(condensed, m, sizes, alive, begin, end, best, bound, id);
  nearest_in<false>(condensed, m, sizes, alive, begin, end, best, bound, id);
}

}  // namespace clustercl::CLUSTERCL_ISA
