// What compute capability 9.0 has beyond common.cuh: barriers that count bytes, bulk copies to the blocks of a cluster, matrix
// instructions of a group of four warps (wgmma) on tiles in shared memory, and registers moved between groups.
//
// Tiles in shared memory and in global memory have one form, so that a bulk copy needs no map: 64 rows of 64 numbers of 16 bits,
// a row 128 bytes, its eight 16-byte units in the order unit ^ (row % 8); tiles begin at multiples of 1024 bytes ("128-byte
// swizzle", PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory Layout"). A descriptor names tiles
//   along the rows      for both factors of a product of rows, 16 features a step (32 bytes further on)
//   along the features  for the second factor of a sum of rows, 16 rows a step (2048 bytes further on)
// Sums: as mma.sync leaves them, for warp w of the group rows 16 w + g and + 8, columns 8 c + 2 t and + 1 at [4 c + 2 h + e].
// Nothing here runs on the host executor: what is built on it is proven on a GPU alone (`make gpu-check`).
#pragma once

#include "common.cuh"

// The assembler knows these instructions for sm_90a alone; for others kernels are compiled without a body and never launched.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define CLUSTERCL_SM90A 1
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define CLUSTERCL_CLUSTER(blocks)
#else
#define CLUSTERCL_CLUSTER(blocks) __cluster_dims__(blocks, 1, 1)
#endif

namespace clustercl {

constexpr int kHopperRows = 128;             // of a block: two groups of warps, 64 each (hopper_ring.cuh)
constexpr int kHopperCluster = 2;            // blocks that share what they load
constexpr int kGroupThreads = 128;           // of a warp group
constexpr int kSwizzledRows = 64;            // of a tile
constexpr int kSwizzledFeatures = 64;        // 128 bytes
constexpr int kSwizzledTile = kSwizzledRows * kSwizzledFeatures;

// Where feature f of row i lies in rows stored as tiles, `chunks` tiles to 64 rows.
__host__ __device__ inline std::int64_t swizzled(std::int64_t i, std::int64_t f, std::int64_t chunks) {
  const std::int64_t tile = i / kSwizzledRows * chunks + f / kSwizzledFeatures, row = i % kSwizzledRows;
  const std::int64_t unit = f % kSwizzledFeatures / 8 ^ row % 8;
  return tile * kSwizzledTile + row * kSwizzledFeatures + unit * 8 + f % 8;
}

#if defined(CLUSTERCL_SM90A)

__device__ inline std::uint32_t shared_address(const void* p) { return static_cast<std::uint32_t>(__cvta_generic_to_shared(p)); }

// ---- barriers --------------------------------------------------------------------------------------------------------

using Barrier = std::uint64_t;

__device__ inline void begin_barrier(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// After begin_barrier, before others see it: also the copies' and the other blocks' side.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// At the same barrier of block `rank` of the cluster. Neither this nor wait_for orders memory beyond the block (that would be a
// fence of the whole device, hundreds of cycles): what they guard are finished reads, not writes.
__device__ inline void arrive_at(Barrier* barrier, int rank) {
  asm volatile(
      "{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::
          "r"(shared_address(barrier)), "r"(rank)
      : "memory");
}
__device__ inline void arrive_expecting(Barrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
// Waits for the end of the phase of this parity.
__device__ inline void wait_for(Barrier* barrier, int parity) {
  asm volatile(
      "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @!done bra again; }" ::
          "r"(shared_address(barrier)), "r"(parity)
      : "memory");
}

__device__ inline int cluster_rank() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}
__device__ inline void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// ---- copies: both ends and sizes in whole 16 bytes -------------------------------------------------------------------

__device__ inline void copy_bulk(void* to, const void* from, int bytes, Barrier* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}
// To the same place in every block of `blocks`, a bit each, whose own barriers count the bytes.
__device__ inline void copy_bulk_to(int blocks, void* to, const void* from, int bytes, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(
          shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier)), "h"(static_cast<std::uint16_t>(blocks))
      : "memory");
}

// ---- registers: of each thread of the group; what one gives back the block's others may have, and nothing else ---------

template <int kRegisters>
__device__ inline void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void want_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- matrix instructions ---------------------------------------------------------------------------------------------

// leading, stride: bytes. Along the rows: stride between groups of 8 rows, leading unused. Along the features: leading between
// tiles of 64 features, stride between groups of 8 rows.
__device__ inline std::uint64_t descriptor(const void* tile, int leading, int stride) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  return kSwizzle128 | (shared_address(tile) & 0x3ffffu) >> 4 | static_cast<std::uint64_t>(leading >> 4) << 16 |
         static_cast<std::uint64_t>(stride >> 4) << 32;
}

__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Until at most kLeft of the groups that were committed are not finished.
template <int kLeft>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}
// Sums that finished products have written: what only computes with them must not be moved before the wait.
template <int kCount>
__device__ inline void after_wait(float (&s)[kCount]) {
#pragma unroll
  for (int k = 0; k < kCount; ++k) asm volatile("" : "+f"(s[k])::"memory");
}

// Sums as operands, and as an instruction names them.
#define CLUSTERCL_SUMS8(s, i) \
  "+f"(s[i]), "+f"(s[i + 1]), "+f"(s[i + 2]), "+f"(s[i + 3]), "+f"(s[i + 4]), "+f"(s[i + 5]), "+f"(s[i + 6]), "+f"(s[i + 7])
#define CLUSTERCL_SUMS32(s, i) \
  CLUSTERCL_SUMS8(s, i), CLUSTERCL_SUMS8(s, i + 8), CLUSTERCL_SUMS8(s, i + 16), CLUSTERCL_SUMS8(s, i + 24)
#define CLUSTERCL_SUMS64(s, i) CLUSTERCL_SUMS32(s, i), CLUSTERCL_SUMS32(s, i + 32)
#define CLUSTERCL_SUMS128(s, i) CLUSTERCL_SUMS64(s, i), CLUSTERCL_SUMS64(s, i + 64)
#define CLUSTERCL_NAMES32 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26" \
  ",%27,%28,%29,%30,%31"
#define CLUSTERCL_NAMES64 \
  CLUSTERCL_NAMES32 \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56" \
  ",%57,%58,%59,%60,%61,%62,%63"
#define CLUSTERCL_NAMES128 \
  CLUSTERCL_NAMES64 \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88" \
  ",%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110" \
  ",%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

// s = (fresh) or s += the product of 64 rows and `columns`, both by descriptors along the rows, 16 features. a, b, more: numbers
// of the operands behind the sums.
#define CLUSTERCL_OF_ROWS(columns, type, count, a_at, b_at, more_at)                                    \
  asm volatile("{ .reg .pred more; setp.ne.b32 more, %" #more_at ", 0;"                                 \
               "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." #type "." #type " {"             \
               CLUSTERCL_NAMES##count "}, %" #a_at ", %" #b_at ", more, 1, 1, 0, 0; }"                  \
               : CLUSTERCL_SUMS##count(s, 0)                                                            \
               : "l"(a), "l"(b), "r"(static_cast<int>(!fresh)))
// s = (fresh) or s += 64 x 16 weights times 16 rows of `columns` features, by a descriptor along the features.
#define CLUSTERCL_OF_FEATURES(columns, type, count, a0, a1, a2, a3, b_at, more_at)                      \
  asm volatile("{ .reg .pred more; setp.ne.b32 more, %" #more_at ", 0;"                                 \
               "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." #type "." #type " {"             \
               CLUSTERCL_NAMES##count "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b_at ", more, 1, 1, 1; }" \
               : CLUSTERCL_SUMS##count(s, 0)                                                            \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(!fresh)))

// By number of columns. kHalf: float16, else bfloat16.
template <bool kHalf, int kColumns>
struct Wgmma;

template <bool kHalf>
struct Wgmma<kHalf, 64> {
  __device__ static void of_rows(float (&s)[32], std::uint64_t a, std::uint64_t b, bool fresh) {
    if constexpr (kHalf) CLUSTERCL_OF_ROWS(64, f16, 32, 32, 33, 34);
    else CLUSTERCL_OF_ROWS(64, bf16, 32, 32, 33, 34);
  }
};

template <bool kHalf>
struct Wgmma<kHalf, 128> {
  __device__ static void of_rows(float (&s)[64], std::uint64_t a, std::uint64_t b, bool fresh) {
    if constexpr (kHalf) CLUSTERCL_OF_ROWS(128, f16, 64, 64, 65, 66);
    else CLUSTERCL_OF_ROWS(128, bf16, 64, 64, 65, 66);
  }
  __device__ static void of_features(float (&s)[64], const std::uint32_t (&a)[4], std::uint64_t b, bool fresh) {
    if constexpr (kHalf) CLUSTERCL_OF_FEATURES(128, f16, 64, 64, 65, 66, 67, 68, 69);
    else CLUSTERCL_OF_FEATURES(128, bf16, 64, 64, 65, 66, 67, 68, 69);
  }
};

template <bool kHalf>
struct Wgmma<kHalf, 256> {
  __device__ static void of_features(float (&s)[128], const std::uint32_t (&a)[4], std::uint64_t b, bool fresh) {
    if constexpr (kHalf) CLUSTERCL_OF_FEATURES(256, f16, 128, 128, 129, 130, 131, 132, 133);
    else CLUSTERCL_OF_FEATURES(256, bf16, 128, 128, 129, 130, 131, 132, 133);
  }
};

#undef CLUSTERCL_SUMS8
#undef CLUSTERCL_SUMS32
#undef CLUSTERCL_SUMS64
#undef CLUSTERCL_SUMS128
#undef CLUSTERCL_NAMES32
#undef CLUSTERCL_NAMES64
#undef CLUSTERCL_NAMES128
#undef CLUSTERCL_OF_ROWS
#undef CLUSTERCL_OF_FEATURES

__device__ inline float exp2_approx(float x) {  // to 2^-22 of it; what lies below 2^-126 is 0
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

// Two numbers as the type of the products, the first in the lower half.
template <bool kHalf>
__device__ inline std::uint32_t pack_two(float first, float second) {
  std::uint32_t out;
  if constexpr (kHalf)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(second), "f"(first));
  else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(second), "f"(first));
  return out;
}

#endif

}  // namespace clustercl
