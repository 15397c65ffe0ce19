// Equal rows on CUDA (linkage_duplicates.h): the device hashes them and compares those whose hashes agree, the host finds which do.
//
// Memory: none of its own on the device: hashes lie in `far`, the first row of a hash in `id`, what a comparison found in `count`;
// begin_clusters forgets them. Where all rows differ, this is one pass over them, and for the host n hashes and a table of 16 to
// 32 n bytes.
// A warp per row, lanes along the features. Deterministic: hashes are sums of integers, and whoever shares a hash is compared.
// Source: the end of Appleby's MurmurHash3, which spreads the bits of a number.
#include "linkage_duplicates_cuda.cuh"

#include <algorithm>

namespace clustercl {
namespace {

// Of the host executor few, so that unlike rows share theirs.
#if defined(CLUSTERCL_SIMT)
constexpr std::uint64_t kHashes = 31;
#else
constexpr std::uint64_t kHashes = ~std::uint64_t{0};
#endif

__device__ std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
}

// A warp per row: a sum over the features, of which the order does not matter.
__global__ void hash_kernel(const double* rows, std::int64_t n, std::int64_t padded, std::uint64_t* hashes) {
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t i = blockIdx.x * kLinkageWarps + threadIdx.x / kWarp; i < n; i += gridDim.x * kLinkageWarps) {
    std::uint64_t sum = 0;
    for (std::int64_t f = lane; f < padded; f += kWarp) {
      const double x = rows[i * padded + f];
      if (fabs(x) < kLarge) continue;
      std::uint64_t bits;
      memcpy(&bits, &x, sizeof bits);
      sum += mixed(bits ^ mixed(static_cast<std::uint64_t>(f) + 1));
    }
    for (int step = kWarp / 2; step > 0; step /= 2) sum += shuffle_xor(sum, step);
    if (lane == 0) hashes[i] = mixed(sum) & kHashes;
  }
}

// A warp per row, with the first of its hash.
__global__ void compare_kernel(const double* rows, std::int64_t n, std::int64_t padded, const std::int32_t* first, Alike* alike) {
  const int lane = threadIdx.x % kWarp;
  for (std::int64_t i = blockIdx.x * kLinkageWarps + threadIdx.x / kWarp; i < n; i += gridDim.x * kLinkageWarps) {
    const double *const x = rows + i * padded, *const y = rows + first[i] * padded;
    bool differs = false, far = false;
    for (std::int64_t f = lane; f < padded && first[i] != i; f += kWarp) {
      differs |= x[f] != y[f];
      far |= x[f] != y[f] && (fabs(x[f]) >= kLarge || fabs(y[f]) >= kLarge);
    }
    const unsigned any = __ballot_sync(kAllLanes, differs), any_far = __ballot_sync(kAllLanes, far);
    if (lane == 0) alike[i] = any == 0 ? Alike::equal : any_far == 0 ? Alike::too_near : Alike::unlike;
  }
}

}  // namespace

Distinct merge_duplicates_cuda(const ClustersCuda& c, std::vector<Merge>& merges, Launches& launches) {
  const std::int64_t blocks = blocks_for(c.n, kLinkageWarps, 1 << 16);
  const double* const rows = c.rows;
  auto* const device = reinterpret_cast<std::uint64_t*>(c.far);
  launches.launch(hash_kernel, blocks, kLinkageThreads, 0, rows, c.n, c.padded, device);
  std::vector<std::uint64_t> hashes(c.n);
  launches.read(hashes.data(), device, c.n);
  if (!launches.fine()) return {};
  auto first = first_equals(hashes, [](std::int64_t, std::int64_t) { return Alike::equal; });  // compared below
  if (first.empty()) return {};
  const std::vector<std::int32_t> narrow(first.begin(), first.end());
  std::vector<Alike> alike(c.n, Alike::unlike);
  auto* const found = reinterpret_cast<Alike*>(c.count);
  launches.write(c.id, narrow.data(), c.n);
  launches.launch(compare_kernel, blocks, kLinkageThreads, 0, rows, c.n, c.padded, static_cast<const std::int32_t*>(c.id), found);
  launches.read(alike.data(), found, c.n);
  if (!launches.fine() || std::find(alike.begin(), alike.end(), Alike::too_near) != alike.end()) return {};
  // Of rows that share their hash with unlike ones the rounds merge all, or the order of a group's merges would not be the greedy one.
  for (std::int64_t i = 0; i < c.n; ++i)
    if (alike[i] == Alike::unlike) first[i] = i;
  const Distinct distinct = distinct_of(first, merges);
  return merges.empty() ? Distinct{} : distinct;
}

void list_distinct(const Distinct& distinct, std::int32_t* list, Launches& launches) {
  const std::vector<std::int32_t> row(distinct.row.begin(), distinct.row.end());
  launches.write(list, row.data(), static_cast<std::int64_t>(row.size()));
}

void count_copies(const ClustersCuda& c, const Distinct& distinct, Launches& launches) {
  std::vector<double> sizes(c.n, 1.0);
  for (std::size_t k = 0; k < distinct.row.size(); ++k) sizes[distinct.row[k]] = distinct.copies[k];
  launches.write(c.sizes, sizes.data(), c.n);
}

}  // namespace clustercl
