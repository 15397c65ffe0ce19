// The minimum spanning tree of the rows on CUDA, from which single linkage is read off (linkage_single.cpp).
//
// Boruvka: every component takes its shortest edge to another one, all at once; edges are ordered by (square, smaller row,
// larger row), which has no ties, so that no circle can arise. A row keeps its nearest few outside its component and looks
// again only when those are used up and its component has nothing that is certainly shorter.
#include "linkage_single.cuh"

namespace clustercl {
namespace {

__global__ void first_kernel(SpanningCuda s) {
  const std::int64_t n = s.scan.clusters.n, first = blockIdx.x * kLinkageThreads + threadIdx.x;
  for (std::int64_t i = first; i < n; i += gridDim.x * kLinkageThreads) s.all[i] = static_cast<std::int32_t>(i);
  if (first != 0) return;
  *s.edges = 0;
}

__device__ unsigned long long bits_of(double x) {  // in the order of numbers that are not negative
  unsigned long long out;
  memcpy(&out, &x, sizeof out);
  return out;
}

// Of each row: the nearest outside its component, where it is among those that it knows; else unknown, and at least so far.
__global__ void refresh_kernel(SpanningCuda s) {
  const ClustersCuda& c = s.scan.clusters;
  const std::int64_t first = blockIdx.x * kLinkageThreads + threadIdx.x;
  for (std::int64_t row = first; row < s.count; row += gridDim.x * kLinkageThreads) {
    const std::int32_t i = s.all[row];
    s.shortest[i] = s.edge[i] = ~0ull;
    const std::int32_t component = c.component[i];
    if (c.id[i] < 0 || c.component[c.id[i]] != component) continue;
    std::int32_t id = -1;
    double nearest = c.beyond[i];
    for (std::int64_t k = std::int64_t{i} * kCandidates; k < std::int64_t{i} * kCandidates + c.count[i]; ++k)
      if (c.component[c.listed[k]] != component && (c.far[k] < nearest || (c.far[k] == nearest && id >= 0 && c.listed[k] < id))) {
        nearest = c.far[k];
        id = c.listed[k];
      }
    if (id < 0 && c.count[i] > 0) c.bound[i] = nearest;  // beyond them all
    c.id[i] = id;
    c.distance[i] = nearest;
  }
  if (first == 0) *s.scan.counts = {static_cast<std::int32_t>(s.count), 0, {}};
}

__global__ void shortest_kernel(SpanningCuda s) {
  const ClustersCuda& c = s.scan.clusters;
  for (std::int64_t row = blockIdx.x * kLinkageThreads + threadIdx.x; row < s.count; row += gridDim.x * kLinkageThreads)
    if (const std::int32_t i = s.all[row]; c.id[i] >= 0) atomicMin(&s.shortest[c.component[i]], bits_of(c.distance[i]));
}

__global__ void want_kernel(SpanningCuda s) {
  const ClustersCuda& c = s.scan.clusters;
  for (std::int64_t row = blockIdx.x * kLinkageThreads + threadIdx.x; row < s.count; row += gridDim.x * kLinkageThreads)
    if (const std::int32_t i = s.all[row]; c.id[i] < 0 && bits_of(c.bound[i] > 0 ? c.bound[i] : 0.0) <= s.shortest[c.component[i]])
      s.scan.wanted[atomicAdd(&s.scan.counts->wanted, 1)] = i;
}

// Of the edges of the shortest length, the one with the smallest rows.
__global__ void edge_kernel(SpanningCuda s) {
  const ClustersCuda& c = s.scan.clusters;
  for (std::int64_t row = blockIdx.x * kLinkageThreads + threadIdx.x; row < s.count; row += gridDim.x * kLinkageThreads) {
    const std::int32_t i = s.all[row];
    const std::int32_t component = c.component[i];
    if (c.id[i] < 0 || bits_of(c.distance[i]) != s.shortest[component]) continue;
    const unsigned long long low = i < c.id[i] ? i : c.id[i], high = i < c.id[i] ? c.id[i] : i;
    atomicMin(&s.edge[component], low << 32 | high);
  }
}

// A component is named by one of its rows; it follows its edge to another, and of two that share theirs the smaller stays.
__device__ std::int32_t follow(const SpanningCuda& s, std::int32_t component) {
  const std::int32_t* names = s.scan.clusters.component;
  const auto to = [&](std::int32_t name) {
    const std::int32_t a = static_cast<std::int32_t>(s.edge[name] >> 32), b = static_cast<std::int32_t>(s.edge[name] & 0xffffffffu);
    return names[a] == name ? names[b] : names[a];
  };
  const std::int32_t next = to(component);
  return component < next && s.edge[component] == s.edge[next] ? component : next;
}

__global__ void join_kernel(SpanningCuda s) {
  const ClustersCuda& c = s.scan.clusters;
  for (std::int64_t row = blockIdx.x * kLinkageThreads + threadIdx.x; row < s.count; row += gridDim.x * kLinkageThreads) {
    const std::int32_t i = s.all[row];
    std::int32_t name = c.component[i], next = follow(s, name);
    if (name == i && next != name) {
      const std::int32_t at = atomicAdd(s.edges, 1);
      s.a[at] = static_cast<std::int32_t>(s.edge[i] >> 32);
      s.b[at] = static_cast<std::int32_t>(s.edge[i] & 0xffffffffu);
      s.square[at] = c.distance[c.component[s.a[at]] == name ? s.a[at] : s.b[at]];
    }
    while (next != name) {
      name = next;
      next = follow(s, name);
    }
    s.joined[i] = name;
  }
}

}  // namespace

SpanningCuda spanning_in(Parts& parts, const ScanCuda& scan) {
  const std::int64_t n = scan.clusters.n;
  SpanningCuda s{};
  s.scan = scan;
  for (std::int32_t** list : {&s.all, &s.joined, &s.a, &s.b}) *list = parts.take<std::int32_t>(n);
  s.square = parts.take<double>(n);
  s.edges = parts.take<std::int32_t>(1);
  s.shortest = parts.take<unsigned long long>(n);
  s.edge = parts.take<unsigned long long>(n);
  return s;
}

bool spanning_tree_cuda(const SpanningCuda& begin, const Distinct& distinct, const Monitor& monitor, Launches& launches) {
  SpanningCuda s = begin;
  const ClustersCuda& c = s.scan.clusters;
  s.count = count_of(distinct, c.n);
  const std::int64_t blocks = blocks_for(s.count, kLinkageThreads);
  begin_clusters(c, launches);
  launches.launch(first_kernel, blocks_for(c.n, kLinkageThreads), kLinkageThreads, 0, s);
  if (distinct.some()) list_distinct(distinct, s.all, launches);
  for (std::int32_t edges = 0, before = -1; edges < s.count - 1 && launches.fine();) {
    if (!monitor(c.n - s.count + edges)) return false;
    launches.launch(refresh_kernel, blocks, kLinkageThreads, 0, s);
    launches.launch(shortest_kernel, blocks, kLinkageThreads, 0, s);
    launches.launch(want_kernel, blocks, kLinkageThreads, 0, s);
    if (!scan_rows(s.scan, s.all, s.count, monitor, c.n - s.count + edges, launches)) return false;
    launches.launch(shortest_kernel, blocks, kLinkageThreads, 0, s);
    launches.launch(edge_kernel, blocks, kLinkageThreads, 0, s);
    launches.launch(join_kernel, blocks, kLinkageThreads, 0, s);
    std::swap(s.scan.clusters.component, s.joined);
    ScanCounts scans;
    before = edges;
    launches.read(&edges, s.edges, 1);
    launches.read(&scans, s.scan.counts, 1);
    monitor.effort.distances += scans.wanted * s.count;
    // Every component has an edge: anything else, as a distance that is not a number, would go on for ever.
    if (launches.fine() && edges == before) launches.error = cudaErrorUnknown;
  }
  return true;
}

}  // namespace clustercl
