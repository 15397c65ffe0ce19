// The engine under the CUDA kernels: 64 rows times 64 rows by four warps of 16 rows each, products in registers.
//
//   product      s (64, 64) += A B^T over a chunk of features, A and B as rows in shared memory
//   accumulate   out (64, kOut) += W V, W = what became of s, still in registers, V (64, kOut) in shared memory
//
// A lane (g = lane / 4, t = lane % 4) of a warp holds s of rows g and g + 8 and columns 8 c + 2 t and 8 c + 2 t + 1 for
// c = 0 .. 7, as matrix instructions leave it: s[c][0], s[c][1] of row g, s[c][2], s[c][3] of row g + 8. W goes back into the
// instructions from there: the order of the inner index is free, so lanes take the columns that they hold.
// Elements: how rows are stored and multiplied.
//   Bf16    bfloat16, sums in float32
//   F16     float16, sums in float32, products alone
//   Tf32    float32 rounded to 11 digits, sums in float32
//   Tf32x3  float32 as a sum of two such numbers, three products: what is left out is of the order of float32's own rounding
//   Fma     float64 by plain multiply-adds
// Rows in shared memory are kStride elements long: 128 bytes of features and 16 more, so that the eight rows that a warp reads
// at once lie in different banks.
#pragma once

#include "common.cuh"

namespace clustercl {

constexpr int kTile = 64;          // rows and columns of a tile
constexpr int kTileThreads = 128;  // 16 rows a warp
constexpr int kGroups = kTile / 8;

// Of numbers of 16 bits: kStep multiplies 16 features.
template <void (*kStep)(float (&)[4], const std::uint32_t (&)[4], const std::uint32_t (&)[2])>
struct Pairs {
  using Element = std::uint16_t;
  using Sum = float;
  static constexpr int kChunk = 64, kStride = 72;

  __device__ static void product(Sum (&s)[kGroups][4], const Element* a, const Element* b, int g, int t) {
    for (int k = 0; k < kChunk; k += 16) {
      std::uint32_t x[4];
      for (int i = 0; i < 4; ++i) x[i] = two(a + (g + 8 * (i % 2)) * kStride + k + 2 * t + 8 * (i / 2));
#pragma unroll
      for (int c = 0; c < kGroups; ++c) {
        const Element* row = b + (8 * c + g) * kStride + k + 2 * t;
        const std::uint32_t y[2] = {two(row), two(row + 8)};
        kStep(s[c], x, y);
      }
    }
  }

 private:
  __device__ static std::uint32_t two(const Element* p) { return *reinterpret_cast<const std::uint32_t*>(p); }
};

struct F16 : Pairs<mma_f16> {};

struct Bf16 : Pairs<mma_bf16> {
  static constexpr int kOut = 128;

  __device__ static void accumulate(Sum (&out)[kOut / 8][4], const Sum (&w)[kGroups][4], const Element* v, int stride) {
    const int row = threadIdx.x % 16;
#pragma unroll
    for (int k = 0; k < kGroups; k += 2) {
      const std::uint32_t x[4] = {pair(w[k][0], w[k][1]), pair(w[k][2], w[k][3]), pair(w[k + 1][0], w[k + 1][1]),
                                  pair(w[k + 1][2], w[k + 1][3])};
#pragma unroll
      for (int c = 0; c < kOut / 8; ++c) {
        std::uint32_t y[2];
        load_transposed(y, v + (8 * k + row) * stride + 8 * c);
        mma_bf16(out[c], x, y);
      }
    }
  }

 private:
  __device__ static std::uint32_t pair(float x, float y) {
    return to_bf16(x) | static_cast<std::uint32_t>(to_bf16(y)) << 16;
  }
};

// kTerms 1: TF32. 3: with the rest of both factors, less the product of the rests.
template <int kTerms>
struct Tf32Of {
  using Element = float;
  using Sum = float;
  static constexpr int kChunk = 32, kStride = 36, kOut = 64;

  __device__ static void product(Sum (&s)[kGroups][4], const Element* a, const Element* b, int g, int t) {
    for (int k = 0; k < kChunk; k += 8) {
      std::uint32_t x[4], x_rest[4];
      for (int i = 0; i < 4; ++i) split(a[(g + 8 * (i % 2)) * kStride + k + t + 4 * (i / 2)], x[i], x_rest[i]);
#pragma unroll
      for (int c = 0; c < kGroups; ++c) {
        std::uint32_t y[2], y_rest[2];
        for (int i = 0; i < 2; ++i) split(b[(8 * c + g) * kStride + k + t + 4 * i], y[i], y_rest[i]);
        multiply(s[c], x, x_rest, y, y_rest);
      }
    }
  }

  // Inner index t stands for column 2 t of W, t + 4 for column 2 t + 1: those that the lane holds.
  // Matrix instructions cut their sums off instead of rounding them, which adds up: with three terms a tile's is made afresh
  // and added by a plain addition.
  __device__ static void accumulate(Sum (&out)[kOut / 8][4], const Sum (&w)[kGroups][4], const Element* v, int stride) {
    if constexpr (kTerms == 3) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Sum part[kOut / 16][4];
#pragma unroll
        for (int c = 0; c < kOut / 16; ++c)
          for (int e = 0; e < 4; ++e) part[c][e] = 0;
        add_columns(part, w, v + half * (kOut / 2), stride);
#pragma unroll
        for (int c = 0; c < kOut / 16; ++c)
          for (int e = 0; e < 4; ++e) out[half * (kOut / 16) + c][e] += part[c][e];
      }
    } else {
      add_columns(out, w, v, stride);
    }
  }

 private:
  template <int kGroupsOut>
  __device__ static void add_columns(Sum (&out)[kGroupsOut][4], const Sum (&w)[kGroups][4], const Element* v, int stride) {
    const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int k = 0; k < kGroups; ++k) {
      std::uint32_t x[4], x_rest[4];
      for (int i = 0; i < 4; ++i) split(w[k][2 * (i % 2) + i / 2], x[i], x_rest[i]);
#pragma unroll
      for (int c = 0; c < kGroupsOut; ++c) {
        std::uint32_t y[2], y_rest[2];
        for (int i = 0; i < 2; ++i) split(v[(8 * k + 2 * t + i) * stride + 8 * c + g], y[i], y_rest[i]);
        multiply(out[c], x, x_rest, y, y_rest);
      }
    }
  }

  // Three terms split by integer arithmetic, since the conversion runs at an eighth of its rate: to the nearest of 11 digits,
  // and of the rest the first 11 digits. Not a number stays one in the rest.
  __device__ static void split(float x, std::uint32_t& first, std::uint32_t& rest) {
    constexpr std::uint32_t kKept = 0xffffe000u;
    first = kTerms == 3 ? (as_bits(x) + 0x1000u) & kKept : to_tf32(x);
    rest = kTerms == 3 ? as_bits(x - as_float(first)) & kKept : 0;
  }
  __device__ static void multiply(float (&c)[4], const std::uint32_t (&x)[4], const std::uint32_t (&x_rest)[4],
                                  const std::uint32_t (&y)[2], const std::uint32_t (&y_rest)[2]) {
    if (kTerms == 3) {
      mma_tf32(c, x_rest, y);
      mma_tf32(c, x, y_rest);
    }
    mma_tf32(c, x, y);
  }
};
using Tf32 = Tf32Of<1>;
using Tf32x3 = Tf32Of<3>;

struct Fma {
  using Element = double;
  using Sum = double;
  static constexpr int kChunk = 16, kStride = 18, kOut = 32;

  __device__ static void product(Sum (&s)[kGroups][4], const Element* a, const Element* b, int g, int t) {
    for (int k = 0; k < kChunk; ++k) {
      const double x[2] = {a[g * kStride + k], a[(g + 8) * kStride + k]};
#pragma unroll
      for (int c = 0; c < kGroups; ++c)
        for (int i = 0; i < 4; ++i) s[c][i] = fma(x[i / 2], b[(8 * c + 2 * t + i % 2) * kStride + k], s[c][i]);
    }
  }

  // A row of W is spread over the four lanes of its g.
  __device__ static void accumulate(Sum (&out)[kOut / 8][4], const Sum (&w)[kGroups][4], const Element* v, int stride) {
    const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int k = 0; k < kTile; ++k) {
      const int owner = g * 4 + k % 8 / 2;
      const double x[2] = {__shfl_sync(kAllLanes, w[k / 8][k % 2], owner), __shfl_sync(kAllLanes, w[k / 8][2 + k % 2], owner)};
#pragma unroll
      for (int c = 0; c < kOut / 8; ++c)
        for (int i = 0; i < 4; ++i) out[c][i] = fma(x[i / 2], v[k * stride + 8 * c + 2 * t + i % 2], out[c][i]);
    }
  }
};

// Shared-memory stride of kOut columns: 16 bytes more than they take.
template <class E>
constexpr int kOutStride = E::kOut + 16 / static_cast<int>(sizeof(typename E::Element));

// Copies `width` elements of each of 64 rows from `from`, `pitch` elements apart; both and the pitch in whole 16 bytes.
template <int kWidth, class Element>
__device__ void copy_tile(Element* to, int stride, const Element* from, std::int64_t pitch) {
  constexpr int kPack = 16 / sizeof(Element), kPacks = kWidth / kPack;
  struct alignas(16) Pack {
    std::uint32_t words[4];
  };
  for (int at = threadIdx.x; at < kTile * kPacks; at += kTileThreads) {
    const int row = at / kPacks, column = at % kPacks * kPack;
    *reinterpret_cast<Pack*>(to + row * stride + column) = *reinterpret_cast<const Pack*>(from + row * pitch + column);
  }
}

// s of the 64 rows from a0 and the 64 rows from b0, `pitch` elements apart, over the features [0, width), whole chunks.
// shared: 2 * kTile * kStride elements, free to be overwritten once all threads are here.
template <class E>
__device__ void tile_product(typename E::Sum (&s)[kGroups][4], const typename E::Element* a0, const typename E::Element* b0,
                             std::int64_t width, std::int64_t pitch, typename E::Element* shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  typename E::Element *a = shared, *b = shared + kTile * E::kStride;
#pragma unroll
  for (int c = 0; c < kGroups; ++c)
    for (int i = 0; i < 4; ++i) s[c][i] = 0;
  for (std::int64_t k = 0; k < width; k += E::kChunk) {
    __syncthreads();
    copy_tile<E::kChunk>(a, E::kStride, a0 + k, pitch);
    copy_tile<E::kChunk>(b, E::kStride, b0 + k, pitch);
    __syncthreads();
    E::product(s, a + 16 * warp * E::kStride, b, lane / 4, lane % 4);
  }
}

}  // namespace clustercl
