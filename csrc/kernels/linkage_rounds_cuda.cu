// The loop over the rounds of linkage_rounds.cuh, and its steps (linkage_steps.cuh) as kernels.
//
// How many clusters there are only the device knows: the host begins several rounds, with grids for as many as there last were,
// before it waits; rounds that find one cluster left do nothing.
#include "linkage_rounds.cuh"
#include "linkage_steps.cuh"

namespace clustercl {
namespace {

// Begun before the host looks at the count; the host executor, to which idle threads cost what busy ones do, needs no lead.
#if defined(CLUSTERCL_SIMT)
constexpr int kRoundsAhead = 2;
#else
constexpr int kRoundsAhead = 16;
#endif
constexpr std::int64_t kLongRound = std::int64_t{1} << 40;  // features of pairs of clusters: users may want to stop after each

__global__ void survey_kernel(RoundsCuda rounds, Survey* surveys) { survey(rounds, surveys); }

__global__ void want_kernel(RoundsCuda rounds, const Survey* surveys, std::int64_t blocks) {
  if (rounds.counts->count > 1) want(rounds, of_all(surveys, blocks));
}

__global__ void choose_kernel(RoundsCuda rounds, const Survey* surveys, std::int64_t blocks) {
  choose(rounds, of_all(surveys, blocks));
}

__global__ void first_kernel(RoundsCuda rounds) {
  const std::int64_t n = rounds.scan.clusters.n;
  for (std::int64_t i = first_of_launch(); i < n; i += threads_of_launch()) rounds.active[i] = static_cast<std::int32_t>(i);
  for (std::int64_t chunk = first_of_launch(); chunk * kChunk < n; chunk += threads_of_launch()) rounds.chunks[chunk] = 0;
  if (first_of_launch() != 0) return;
  *rounds.counts = {static_cast<std::int32_t>(n), 0, 0, n, 0, 0, 0, 0, 0, {}};
  *rounds.scan.counts = {static_cast<std::int32_t>(n), 0, {}};
}

}  // namespace

RoundsCuda rounds_in(Parts& parts, const ScanCuda& scan) {
  const std::int64_t n = scan.clusters.n;
  RoundsCuda rounds{};
  rounds.scan = scan;
  for (std::int32_t** list : {&rounds.active, &rounds.left, &rounds.into, &rounds.a, &rounds.b}) *list = parts.take<std::int32_t>(n);
  rounds.segments = parts.take<std::int32_t>((n + kWarp - 1) / kWarp);
  rounds.chunks = parts.take<std::int32_t>((n + kChunk - 1) / kChunk);
  for (double** list : {&rounds.between, &rounds.share}) *list = parts.take<double>(n);
  rounds.counts = parts.take<RoundCounts>(1);
  return rounds;
}

bool merge_by_rounds_cuda(SpaceCuda& space, const RoundsCuda& begin, const Monitor& monitor, Launches& launches) {
  constexpr std::size_t shared = kLinkageThreads * sizeof(Survey);
  RoundsCuda rounds = begin;
  const std::int64_t n = rounds.scan.clusters.n, before = monitor.effort.distances;
  // A scan's lists are not in use while surveys are: they lie at their beginning.
  auto* const surveys = reinterpret_cast<Survey*>(rounds.scan.lists.distance);
  begin_clusters(rounds.scan.clusters, launches);
  launches.launch(first_kernel, blocks_for(n, kLinkageThreads), kLinkageThreads, 0, rounds);
  std::int64_t done = 0;  // rounds
  for (std::int64_t most = n; most > 1 && launches.fine();) {
    const std::int64_t merges = n - most, blocks = blocks_for(most, kLinkageThreads);
    if (!monitor(merges)) return false;
    const bool together = space.rounds_together(rounds, most, surveys, launches);
    const bool is_long = most * most * rounds.scan.clusters.padded > kLongRound;
    for (int ahead = together ? 0 : is_long ? 1 : kRoundsAhead; ahead > 0; --ahead) {
      launches.launch(survey_kernel, blocks, kLinkageThreads, shared, rounds, surveys);
      launches.launch(want_kernel, blocks, kLinkageThreads, shared, rounds, static_cast<const Survey*>(surveys), blocks);
      if (!space.scan(rounds, most, monitor, merges, launches)) return false;
      launches.launch(survey_kernel, blocks, kLinkageThreads, shared, rounds, surveys);
      launches.launch(choose_kernel, blocks, kLinkageThreads, shared, rounds, static_cast<const Survey*>(surveys), blocks);
      space.join(rounds, most, launches);
      space.repair(rounds, most, launches);
      std::swap(rounds.active, rounds.left);
    }
    RoundCounts counts;
    launches.read(&counts, rounds.counts, 1);
    if (!launches.fine()) break;
    if (counts.stuck != 0) {
      launches.error = cudaErrorUnknown;
      break;
    }
    if (together && (counts.rounds - done) % 2 != 0) std::swap(rounds.active, rounds.left);
    done = counts.rounds;
    monitor.effort.rounds = counts.rounds;
    monitor.effort.distances = before + counts.distances;
    monitor.effort.screened = counts.screened;
    monitor.effort.open = counts.open;
    most = counts.count;
  }
  return true;
}

}  // namespace clustercl
