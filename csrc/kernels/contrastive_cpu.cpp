// The arithmetic of contrastive.h, compiled once per instruction set.
#include "contrastive.h"

#include "tile.h"

namespace clustercl::CLUSTERCL_ISA {

namespace {

// Which columns of one row are candidates and which are positives; -1 or 0 per lane.
template <class T>
struct Mask {
  typename Simd<T>::I kept, positive;
};

template <class T, SameClass same_class>
inline Mask<T> mask_of(const ContrastiveRows<T>& in, std::int64_t row, std::int64_t column) {
  using I = typename Simd<T>::I;
  I at;
  for (int lane = 0; lane < kLanes<T>; ++lane) at[lane] = static_cast<RowId<T>>(column + lane);
  const I image = load_integers<T>(in.image + column), group = load_integers<T>(in.group + column);
  const I other = at != static_cast<RowId<T>>(row), real = image >= 0;
  const I mate = (image == in.image[row]) & other;
  if constexpr (same_class == SameClass::exclude) return {((group != in.group[row]) | mate) & real, mate};
  if constexpr (same_class == SameClass::attract) return {other & real, (group == in.group[row]) & other};
  return {other & real, mate};
}

// Takes one row's products with kBlockColumns columns into its running largest, sum and positive.
template <class T, SameClass same_class>
inline void forward_row(const ContrastiveRows<T>& in, std::int64_t row, std::int64_t column, T* s, T& largest_seen,
                        double& sum, double& positive) {
  using V = typename Simd<T>::V;
  const T infinity = static_cast<T>(__builtin_inf());
  const V nothing = all(-infinity);
  V most = nothing, positives = {};
  for (int c = 0; c < kBlockColumns<T>; c += kLanes<T>) {
    const Mask<T> mask = mask_of<T, same_class>(in, row, column + c);
    const V value = load(s + c);
    const V kept = mask.kept ? value : nothing;
    most = kept > most ? kept : most;
    positives += mask.positive ? value : V{};
    store(s + c, kept);
  }
  positive += total<T>(positives);
  const T block = largest<T>(most);
  if (block > largest_seen) {
    sum *= __builtin_exp(static_cast<double>(largest_seen) - static_cast<double>(block));
    largest_seen = block;
  }
  // Nothing kept so far, or nothing but NaN: 0 in the place of -inf keeps the first at 0 and lets the second through.
  const V shift = all(largest_seen == -infinity ? T{0} : largest_seen);
  V sums = {};
  for (int c = 0; c < kBlockColumns<T>; c += kLanes<T>) sums += exponential(load(s + c) - shift);
  sum += total<T>(sums);
}

// Turns one row's products with kBlockColumns columns into the weights a_ij + a_ji.
template <class T, SameClass same_class>
inline void backward_row(const ContrastiveRows<T>& in, std::int64_t row, std::int64_t column, T* s) {
  using V = typename Simd<T>::V;
  const V lse = all(in.lse[row]), grad = all(in.grad[row]), share = all(in.share[row]);
  for (int c = 0; c < kBlockColumns<T>; c += kLanes<T>) {
    const Mask<T> mask = mask_of<T, same_class>(in, row, column + c);
    const V value = load(s + c);
    const V here = grad * exponential(value - lse), there = load(in.grad + column + c) * exponential(value - load(in.lse + column + c));
    const V pull_here = mask.positive ? share : V{}, pull_there = mask.positive ? load(in.share + column + c) : V{};
    store(s + c, mask.kept ? (here - pull_here) + (there - pull_there) : V{});
  }
}

template <class T>
inline void products(const ContrastiveRows<T>& in, std::int64_t row, std::int64_t column, T* s) {
  dots(in.unit + row * in.stride, in.stride, in.panels + column * in.d, kBlockColumns<T> / kPanel<T>, in.d,
       in.inverse_temperature, s, kBlockColumns<T>);
}

template <class T, SameClass same_class>
void forward(const ContrastiveRows<T>& in, std::int64_t row, T* largest, double* sum, double* positive) {
  alignas(64) T s[kBlockRows * kBlockColumns<T>];
  for (int r = 0; r < kBlockRows; ++r) {
    largest[r] = -static_cast<T>(__builtin_inf());
    sum[r] = positive[r] = 0;
  }
  for (std::int64_t column = 0; column < in.padded; column += kBlockColumns<T>) {
    products(in, row, column, s);
    for (int r = 0; r < kBlockRows && row + r < in.n; ++r)
      forward_row<T, same_class>(in, row + r, column, s + r * kBlockColumns<T>, largest[r], sum[r], positive[r]);
  }
}

template <class T, SameClass same_class>
void backward(const ContrastiveRows<T>& in, std::int64_t row, std::int64_t from, std::int64_t to, T* out) {
  alignas(64) T s[kBlockRows * kBlockColumns<T>];
  for (std::int64_t column = from; column < to; column += kBlockColumns<T>) {
    products(in, row, column, s);
    for (int r = 0; r < kBlockRows && row + r < in.n; ++r)
      backward_row<T, same_class>(in, row + r, column, s + r * kBlockColumns<T>);
    accumulate(s, kBlockColumns<T>, kBlockColumns<T>, in.unit + column * in.stride, in.stride, round_up(in.d, kPanel<T>), out,
               in.stride);
  }
}

}  // namespace

template <class T>
void contrastive_forward_block(const ContrastiveRows<T>& in, std::int64_t row, T* largest, double* sum, double* positive) {
  if (in.same_class == SameClass::exclude) return forward<T, SameClass::exclude>(in, row, largest, sum, positive);
  if (in.same_class == SameClass::attract) return forward<T, SameClass::attract>(in, row, largest, sum, positive);
  forward<T, SameClass::ignore>(in, row, largest, sum, positive);
}

template <class T>
void contrastive_backward_block(const ContrastiveRows<T>& in, std::int64_t row, std::int64_t from, std::int64_t to, T* out) {
  if (in.same_class == SameClass::exclude) return backward<T, SameClass::exclude>(in, row, from, to, out);
  if (in.same_class == SameClass::attract) return backward<T, SameClass::attract>(in, row, from, to, out);
  backward<T, SameClass::ignore>(in, row, from, to, out);
}

template void contrastive_forward_block(const ContrastiveRows<float>&, std::int64_t, float*, double*, double*);
template void contrastive_forward_block(const ContrastiveRows<double>&, std::int64_t, double*, double*, double*);
template void contrastive_backward_block(const ContrastiveRows<float>&, std::int64_t, std::int64_t, std::int64_t, float*);
template void contrastive_backward_block(const ContrastiveRows<double>&, std::int64_t, std::int64_t, std::int64_t, double*);

}  // namespace clustercl::CLUSTERCL_ISA
