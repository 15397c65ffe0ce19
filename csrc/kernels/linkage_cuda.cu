// Entry of the linkage on CUDA: brings the data into range, picks the method, fetches the merges.
#include "linkage_cuda.h"

#include <algorithm>
#include <cmath>

#include "compact.h"
#include "linkage_rounds.cuh"
#include "linkage_single.cuh"

namespace clustercl {

bool merge_ward_cuda(const RoundsCuda& rounds, const Distinct& distinct, const Monitor& monitor, Launches& launches);
bool merge_dense_cuda(const RoundsCuda& rounds, const Distinct& distinct, const LinkageCuda& in, void* entries, double unit,
                      const Monitor& monitor, Launches& launches);

namespace {

// A block per kSumRows rows, threads along the features: sums, smallest and largest values, (blocks, padded) each.
__global__ void columns_kernel(const double* rows, std::int64_t n, std::int64_t padded, double* sum, double* low, double* high) {
  const std::int64_t from = blockIdx.x * kSumRows, end = from + kSumRows < n ? from + kSumRows : n;
  for (std::int64_t f = threadIdx.x; f < padded; f += blockDim.x) {
    double total = 0, least = rows[from * padded + f], most = least;
    for (std::int64_t i = from; i < end; ++i) {
      const double x = rows[i * padded + f];
      total += x;
      least = x < least ? x : least;
      most = most < x ? x : most;
    }
    sum[blockIdx.x * padded + f] = total;
    low[blockIdx.x * padded + f] = least;
    high[blockIdx.x * padded + f] = most;
  }
}

__global__ void scale_kernel(double* rows, std::int64_t count, int exponent) {
  for (std::int64_t k = blockIdx.x * blockDim.x + threadIdx.x; k < count; k += gridDim.x * blockDim.x)
    rows[k] = ldexp(rows[k], -exponent);
}

// Sets middle to 0 where a value would lose a digit.
__global__ void keep_exact_kernel(const double* rows, std::int64_t n, std::int64_t padded, const double* middle, double* kept) {
  const std::int64_t from = blockIdx.x * kSumRows, end = from + kSumRows < n ? from + kSumRows : n;
  for (std::int64_t f = threadIdx.x; f < padded; f += blockDim.x)
    for (std::int64_t i = from; i < end; ++i) {
      const double x = rows[i * padded + f];
      if (plus(plus(x, -middle[f]), middle[f]) == x) continue;
      kept[f] = 0;  // whoever writes, writes this
      break;
    }
}

__global__ void centre_kernel(double* rows, std::int64_t n, std::int64_t padded, const double* middle) {
  for (std::int64_t k = blockIdx.x * blockDim.x + threadIdx.x; k < n * padded; k += gridDim.x * blockDim.x)
    rows[k] -= middle[k % padded];
}

// Everything in the workspace. rounds: of all but single; spanning: of single.
struct State {
  RoundsCuda rounds;
  SpanningCuda spanning;
  void* entries;
  double *sum, *low, *high, *middle, *kept;
  std::int64_t blocks;
};

State state_in(Parts& parts, const LinkageCuda& in, double* rows) {
  State s{};
  const bool dense = in.method == Linkage::average || in.method == Linkage::complete;
  const ScanCuda scan = scan_in(parts, clusters_in(parts, in.n, in.padded, rows, in.method == Linkage::single), !dense);
  if (in.method == Linkage::single) s.spanning = spanning_in(parts, scan);
  else s.rounds = rounds_in(parts, scan);
  if (dense) {
    const std::int64_t bytes = in.entries == Entries::half ? sizeof(Compact) : sizeof(double);
    s.entries = parts.take<unsigned char>(in.n * in.n * bytes);
  }
  s.blocks = (in.n + kSumRows - 1) / kSumRows;
  for (double** part : {&s.sum, &s.low, &s.high}) *part = parts.take<double>(s.blocks * in.padded);
  for (double** part : {&s.middle, &s.kept}) *part = parts.take<double>(in.padded);
  return s;
}

Columns columns_of(const State& s, const LinkageCuda& in, const double* rows, Launches& launches) {
  launches.launch(columns_kernel, s.blocks, kLinkageThreads, 0, rows, in.n, in.padded, s.sum, s.low, s.high);
  Columns parts, columns;
  for (auto [to, from] : {std::pair{&parts.sum, s.sum}, std::pair{&parts.low, s.low}, std::pair{&parts.high, s.high}}) {
    to->resize(s.blocks * in.padded);
    launches.read(to->data(), from, s.blocks * in.padded);
  }
  columns.sum.assign(in.padded, 0.0);
  columns.low = {parts.low.begin(), parts.low.begin() + in.padded};
  columns.high = {parts.high.begin(), parts.high.begin() + in.padded};
  for (std::int64_t block = 0; block < s.blocks; ++block)
    for (std::int64_t f = 0; f < in.padded; ++f) {
      columns.sum[f] += parts.sum[block * in.padded + f];
      columns.low[f] = std::min(columns.low[f], parts.low[block * in.padded + f]);
      columns.high[f] = std::max(columns.high[f], parts.high[block * in.padded + f]);
    }
  return columns;
}

double largest_of(const Columns& columns, const std::vector<double>& middle) {
  double largest = 0;
  for (std::size_t f = 0; f < middle.size(); ++f)
    largest = std::max({largest, columns.high[f] - middle[f], middle[f] - columns.low[f]});
  return largest;
}

// As linkage.cpp brings rows into range. largest: of what they hold then.
int bring_into_range(const State& s, const LinkageCuda& in, double* rows, double& largest, Launches& launches) {
  const std::int64_t blocks = blocks_for(in.n * in.padded, kLinkageThreads, 1 << 14);
  std::vector<double> middle(in.padded, 0.0);
  Columns columns = columns_of(s, in, rows, launches);
  const int exponent = in.metric == Metric::cosine ? 0 : exponent_of(largest_of(columns, middle));
  if (exponent != 0) {
    launches.launch(scale_kernel, blocks, kLinkageThreads, 0, rows, in.n * in.padded, exponent);
    columns = columns_of(s, in, rows, launches);
  }
  if (in.method != Linkage::single) {
    middle = middle_of(columns, in.n);
    launches.write(s.middle, middle.data(), in.padded);
    launches.write(s.kept, middle.data(), in.padded);
    launches.launch(keep_exact_kernel, s.blocks, kLinkageThreads, 0, static_cast<const double*>(rows), in.n, in.padded,
                    static_cast<const double*>(s.middle), s.kept);
    launches.read(middle.data(), s.kept, in.padded);
    launches.launch(centre_kernel, blocks, kLinkageThreads, 0, rows, in.n, in.padded, static_cast<const double*>(s.kept));
  }
  largest = largest_of(columns, middle);
  return exponent;
}

template <class T>
std::vector<T> fetched(const T* device, std::int64_t count, Launches& launches) {
  std::vector<T> host(count);
  launches.read(host.data(), device, count);
  return host;
}

}  // namespace

std::int64_t linkage_cuda_workspace(const LinkageCuda& in) {
  Parts parts(nullptr);
  state_in(parts, in, nullptr);
  return parts.used();
}

cudaError_t linkage_cuda(const LinkageCuda& in, double* rows, void* workspace, const Parallel& parallel, const Monitor& monitor,
                         double* z, bool& finished, cudaStream_t stream) {
  Launches launches{stream};
  Parts parts(workspace);
  State s = state_in(parts, in, rows);
  double largest;
  const int exponent = bring_into_range(s, in, rows, largest, launches);
  const double unit = std::ldexp(1.0, -(largest > 0 ? std::ilogb(largest) + 1 : 0));
  s.rounds.scan.unit = s.spanning.scan.unit = unit;

  std::vector<Merge> merges;
  merges.reserve(in.n - 1);
  const bool single = in.method == Linkage::single;
  const Distinct distinct = merge_duplicates_cuda(single ? s.spanning.scan.clusters : s.rounds.scan.clusters, merges, launches);
  const std::int64_t count = count_of(distinct, in.n) - 1;
  if (single) {
    finished = spanning_tree_cuda(s.spanning, distinct, monitor, launches);
    if (!finished || !launches.fine()) return launches.error;
    const auto a = fetched(s.spanning.a, count, launches), b = fetched(s.spanning.b, count, launches);
    auto square = fetched(s.spanning.square, count, launches);
    std::vector<Edge> edges(count);
    for (std::int64_t e = 0; e < count; ++e) edges[e] = {square[e], a[e], b[e]};
    std::sort(square.begin(), square.end());
    const bool ties = std::adjacent_find(square.begin(), square.end()) != square.end();
    const std::vector<double> host = ties ? fetched(rows, in.n * in.padded, launches) : std::vector<double>();
    if (!launches.fine()) return launches.error;
    finished = merge_spanning_tree(edges, host.data(), in.n, in.padded, in.metric, parallel, monitor, merges);
  } else {
    const bool ward = in.method == Linkage::ward;
    const double entry_unit = !ward && in.entries == Entries::half ? compact_unit(largest, in.padded, in.metric) : 1.0;
    finished = ward ? merge_ward_cuda(s.rounds, distinct, monitor, launches)
                    : merge_dense_cuda(s.rounds, distinct, in, s.entries, entry_unit, monitor, launches);
    if (!finished || !launches.fine()) return launches.error;
    const auto a = fetched(s.rounds.a, count, launches), b = fetched(s.rounds.b, count, launches);
    const auto between = fetched(s.rounds.between, count, launches);
    for (std::int64_t m = 0; m < count; ++m) merges.push_back({a[m], b[m], ward ? std::sqrt(between[m]) : between[m] / entry_unit});
  }
  if (!launches.fine()) return launches.error;
  finished = finished && monitor(in.n - 1);
  if (finished) write_merges(merges, in.n, in.metric == Metric::sqeuclidean ? 2 * exponent : exponent, z);
  return cudaSuccess;
}

}  // namespace clustercl
