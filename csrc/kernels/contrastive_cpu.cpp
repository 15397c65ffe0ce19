// The arithmetic of contrastive.h, compiled once per instruction set.
#include "contrastive.h"

#include "tile.h"

namespace clustercl::CLUSTERCL_ISA {

namespace {

// Registers that one pass over a tile's rows takes along: with AVX-512 the whole block of floats.
constexpr int kChunk = 6;
static_assert(kBlock % (kChunk * kLanes<float>) == 0 && kBlock % (kChunk * kLanes<double>) == 0);

template <class T>
inline void products(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t j, T* s) {
  dots(in.rows + i * kBlock * in.width, in.panels + j * kBlock * in.d, in.d, s);
}

// -1 in the lanes of the columns from `column` on that exist.
template <class T>
inline typename Simd<T>::I existing(std::int64_t n, std::int64_t column) {
  typename Simd<T>::I at;
  for (int lane = 0; lane < kLanes<T>; ++lane) at[lane] = lane;
  const std::int64_t left = n - column;
  return at < static_cast<RowId<T>>(left < kLanes<T> ? left : kLanes<T>);
}

// What a tile does with a pair beside leaving it out.
enum class Mask { plain, attract, weighted };

// w_ij of a row with the columns from `column` on.
template <class T>
inline typename Simd<T>::V pair_weight(const ContrastiveTiles<T>& in, std::int64_t row, std::int64_t column) {
  using V = typename Simd<T>::V;
  V weight = all(T{1});
  for (int level = 0; level < in.levels; ++level) {
    const auto shared = load_integers<T>(in.level[level] + column) == in.level[level][row];
    weight = shared ? weight * all(in.level_weight[level]) : weight;
  }
  return weight;
}

// Takes a tile of products into its rows' sums (a register per row) and its columns' (two passes apart).
template <class T, Mask mask, bool end>
void sum_tile(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t j, const T* s, typename Simd<T>::V* row_sum,
              typename Simd<T>::V* row_positive, double* sum, double* positive) {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  constexpr int lanes = kLanes<T>;
  const V scale = all(in.scale), shift = all(-in.shift);
  const int rows = static_cast<int>(in.n - i * kBlock < kBlock ? in.n - i * kBlock : kBlock);
  for (int c = 0; c < kBlock; c += kChunk * lanes) {
    const std::int64_t column = j * kBlock + c;
    V sums[kChunk] = {}, positives[kChunk] = {};
    I left_out[kChunk];
    for (int k = 0; k < kChunk; ++k) left_out[k] = load_integers<T>(in.left_out + column + k * lanes);
    for (int r = 0; r < rows; ++r) {
      const RowId<T> own = in.left_out[i * kBlock + r];
      V along = {}, attracted = {};
#pragma GCC unroll 6
      for (int k = 0; k < kChunk; ++k) {
        const V product = load(s + r * kBlock + c + k * lanes);
        I kept = left_out[k] != own;
        if constexpr (end) kept &= existing<T>(in.n, column + k * lanes);
        V e = exponential2(fma(product, scale, shift));
        if constexpr (mask == Mask::weighted) {
          const V weight = pair_weight(in, i * kBlock + r, column + k * lanes);
          kept &= weight > V{};  // not even a NaN comes through a weight of 0
          e *= weight;
        }
        const V value = kept ? e : V{};
        along += value;
        sums[k] += value;
        if constexpr (mask == Mask::attract) {
          const I mate = (load_integers<T>(in.group + column + k * lanes) == in.group[i * kBlock + r]) & kept;
          const V pulled = mate ? product : V{};
          attracted += pulled;
          positives[k] += pulled;
        }
      }
      row_sum[r] += along;
      if constexpr (mask == Mask::attract) row_positive[r] += attracted;
    }
    if (i == j) continue;  // its columns are its rows
    for (int k = 0; k < kChunk; ++k)
      for (int lane = 0; lane < lanes; ++lane) {
        sum[column + k * lanes + lane] += static_cast<double>(sums[k][lane]);
        if constexpr (mask == Mask::attract) positive[column + k * lanes + lane] += static_cast<double>(positives[k][lane]);
      }
  }
}

template <class T, Mask mask>
void forward(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t from, std::int64_t to, double* sum,
             double* positive) {
  using V = typename Simd<T>::V;
  alignas(64) T s[kBlock * kBlock];
  V row_sum[kBlock] = {}, row_positive[mask == Mask::attract ? kBlock : 1] = {};
  for (std::int64_t j = from; j < to; ++j) {
    products(in, i, j, s);
    if ((j + 1) * kBlock > in.n)
      sum_tile<T, mask, true>(in, i, j, s, row_sum, row_positive, sum, positive);
    else
      sum_tile<T, mask, false>(in, i, j, s, row_sum, row_positive, sum, positive);
  }
  for (int r = 0; r < kBlock; ++r) {
    sum[i * kBlock + r] += static_cast<double>(total<T>(row_sum[r]));
    if constexpr (mask == Mask::attract) positive[i * kBlock + r] += static_cast<double>(total<T>(row_positive[r]));
  }
}

// Turns a tile of products into the weights a_ij + a_ji; `exact` with an exponential for each of the two.
template <class T, Mask mask, bool exact>
void weigh_tile(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t j, T* s) {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  constexpr int lanes = kLanes<T>;
  const V scale = all(in.scale), shift = all(-in.shift), inverse_temperature = all(in.inverse_temperature);
  for (int c = 0; c < kBlock; c += kChunk * lanes) {
    const std::int64_t column = j * kBlock + c;
    V factor[kChunk];
    I left_out[kChunk];
    for (int k = 0; k < kChunk; ++k) {
      factor[k] = load(in.factor + column + k * lanes);
      left_out[k] = load_integers<T>(in.left_out + column + k * lanes);
    }
    for (std::int64_t row = i * kBlock; row < (i + 1) * kBlock; ++row) {
      const RowId<T> own = in.left_out[row];
      const V own_factor = all(in.factor[row]);
#pragma GCC unroll 6
      for (int k = 0; k < kChunk; ++k) {
        T* at = s + (row - i * kBlock) * kBlock + c + k * lanes;
        const V product = load(at);
        V weight;
        if constexpr (exact) {
          const V value = product * inverse_temperature;
          const std::int64_t there = column + k * lanes;
          weight = all(in.grad[row]) * exponential(value - all(in.lse[row])) +
                   load(in.grad + there) * exponential(value - load(in.lse + there));
        } else {
          weight = exponential2(fma(product, scale, shift)) * (own_factor + factor[k]);
        }
        if constexpr (mask == Mask::attract) {
          const I mate = load_integers<T>(in.group + column + k * lanes) == in.group[row];
          const V pull = load(in.share + column + k * lanes) + in.share[row];
          weight -= mate ? pull : V{};
        }
        I kept = left_out[k] != own;
        // A row of padding has s = 0, which may lie so far above a log-sum that exp overflows, and infinity times its zeros is NaN.
        if constexpr (exact) kept &= existing<T>(row < in.n ? in.n : 0, column + k * lanes);
        if constexpr (mask == Mask::weighted) {
          const V pair = pair_weight(in, row, column + k * lanes);
          kept &= pair > V{};
          weight *= pair;
        }
        store(at, kept ? weight : V{});
      }
    }
  }
}

template <class T, Mask mask>
void backward(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t from, std::int64_t to, T* out) {
  alignas(64) T s[kBlock * kBlock];
  const std::int64_t size = kBlock * in.width;
  for (std::int64_t j = from; j < to; ++j) {
    products(in, i, j, s);
    if (in.exact[i] || in.exact[j])
      weigh_tile<T, mask, true>(in, i, j, s);
    else
      weigh_tile<T, mask, false>(in, i, j, s);
    accumulate(s, in.rows + j * size, in.width, out + i * size);
    if (i != j) accumulate_transposed(s, in.rows + i * size, in.width, out + j * size);
  }
}

}  // namespace

template <class T>
void contrastive_forward_tiles(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t from, std::int64_t to,
                               double* sum, double* positive) {
  if (in.attract)
    forward<T, Mask::attract>(in, i, from, to, sum, positive);
  else if (in.levels > 0)
    forward<T, Mask::weighted>(in, i, from, to, sum, positive);
  else
    forward<T, Mask::plain>(in, i, from, to, sum, positive);
}

template <class T>
void contrastive_backward_tiles(const ContrastiveTiles<T>& in, std::int64_t i, std::int64_t from, std::int64_t to, T* out) {
  if (in.attract)
    backward<T, Mask::attract>(in, i, from, to, out);
  else if (in.levels > 0)
    backward<T, Mask::weighted>(in, i, from, to, out);
  else
    backward<T, Mask::plain>(in, i, from, to, out);
}

template <class T>
void contrastive_exact_rows(const ContrastiveTiles<T>& in, std::int64_t i, T* largest, double* sum) {
  using V = typename Simd<T>::V;
  using I = typename Simd<T>::I;
  constexpr int lanes = kLanes<T>;
  alignas(64) T s[kBlock * kBlock];
  const T infinity = static_cast<T>(__builtin_inf());
  const V nothing = all(-infinity), inverse_temperature = all(in.inverse_temperature);
  for (int r = 0; r < kBlock; ++r) {
    largest[r] = -infinity;
    sum[r] = 0;
  }
  for (std::int64_t j = 0; j * kBlock < in.n; ++j) {
    products(in, i, j, s);
    for (int r = 0; r < kBlock && i * kBlock + r < in.n; ++r) {
      V most = nothing;
      for (int c = 0; c < kBlock; c += lanes) {
        const std::int64_t column = j * kBlock + c;
        I kept = (load_integers<T>(in.left_out + column) != in.left_out[i * kBlock + r]) & existing<T>(in.n, column);
        if (in.levels > 0) kept &= pair_weight(in, i * kBlock + r, column) > V{};
        const V value = kept ? load(s + r * kBlock + c) * inverse_temperature : nothing;
        most = value > most ? value : most;
        store(s + r * kBlock + c, value);
      }
      const T here = clustercl::CLUSTERCL_ISA::largest<T>(most);
      if (here > largest[r]) {
        sum[r] *= __builtin_exp(static_cast<double>(largest[r]) - static_cast<double>(here));
        largest[r] = here;
      }
      // Nothing kept so far, or nothing but NaN: 0 in the place of -inf keeps the first at 0 and lets the second through.
      const V shift = all(largest[r] == -infinity ? T{0} : largest[r]);
      V sums = {};
      for (int c = 0; c < kBlock; c += lanes) {
        const V e = exponential(load(s + r * kBlock + c) - shift);
        sums += in.levels > 0 ? e * pair_weight(in, i * kBlock + r, j * kBlock + c) : e;
      }
      sum[r] += static_cast<double>(total<T>(sums));
    }
  }
}

template void contrastive_forward_tiles(const ContrastiveTiles<float>&, std::int64_t, std::int64_t, std::int64_t, double*, double*);
template void contrastive_forward_tiles(const ContrastiveTiles<double>&, std::int64_t, std::int64_t, std::int64_t, double*, double*);
template void contrastive_backward_tiles(const ContrastiveTiles<float>&, std::int64_t, std::int64_t, std::int64_t, float*);
template void contrastive_backward_tiles(const ContrastiveTiles<double>&, std::int64_t, std::int64_t, std::int64_t, double*);
template void contrastive_exact_rows(const ContrastiveTiles<float>&, std::int64_t, float*, double*);
template void contrastive_exact_rows(const ContrastiveTiles<double>&, std::int64_t, double*, double*);

}  // namespace clustercl::CLUSTERCL_ISA
