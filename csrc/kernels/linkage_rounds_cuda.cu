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

__global__ void survey_kernel(RoundsCuda rounds) { survey(rounds); }

__global__ void want_kernel(RoundsCuda rounds, std::int64_t blocks) {
  if (rounds.counts->count > 1) want(rounds, of_all(rounds, blocks));
}

__global__ void choose_kernel(RoundsCuda rounds, std::int64_t blocks) { choose(rounds, of_all(rounds, blocks)); }

// clusters: how many of the n rows are to merge.
__global__ void first_kernel(RoundsCuda rounds, std::int64_t clusters) {
  const std::int64_t n = rounds.scan.clusters.n;
  for (std::int64_t i = first_of_launch(); i < n; i += threads_of_launch()) rounds.active[i] = static_cast<std::int32_t>(i);
  for (std::int64_t chunk = first_of_launch(); chunk * kChunk < n; chunk += threads_of_launch()) rounds.chunks[chunk] = 0;
  if (first_of_launch() != 0) return;
  *rounds.counts = {static_cast<std::int32_t>(clusters), 0, 0, clusters, 0, 0, 0, 0, 0};
  *rounds.meeting = {};
  *rounds.scan.counts = {static_cast<std::int32_t>(clusters), 0, {}};
}

}  // namespace

RoundsCuda rounds_in(Parts& parts, const ScanCuda& scan) {
  const std::int64_t n = scan.clusters.n;
  RoundsCuda rounds{};
  rounds.scan = scan;
  rounds.surveys = parts.take<Survey>(kSurveyBlocks);
  rounds.patience = n;
  for (std::int32_t** list : {&rounds.active, &rounds.left, &rounds.into, &rounds.a, &rounds.b}) *list = parts.take<std::int32_t>(n);
  rounds.segments = parts.take<std::int32_t>((n + kWarp - 1) / kWarp);
  rounds.chunks = parts.take<std::int32_t>((n + kChunk - 1) / kChunk);
  for (double** list : {&rounds.between, &rounds.share}) *list = parts.take<double>(n);
  rounds.counts = parts.take<RoundCounts>(1);
  rounds.next = parts.take<RoundCounts>(1);
  rounds.meeting = parts.take<Meeting>(1);
  return rounds;
}

void begin_rounds_cuda(const RoundsCuda& rounds, const Distinct& distinct, Launches& launches) {
  const ClustersCuda& c = rounds.scan.clusters;
  begin_clusters(c, launches);
  launches.launch(first_kernel, blocks_for(c.n, kLinkageThreads), kLinkageThreads, 0, rounds, count_of(distinct, c.n));
  if (!distinct.some()) return;
  list_distinct(distinct, rounds.active, launches);
  count_copies(c, distinct, launches);
}

bool merge_by_rounds_cuda(SpaceCuda& space, const RoundsCuda& begin, std::int64_t clusters, const Monitor& monitor,
                          Launches& launches) {
  constexpr std::size_t shared = survey_bytes(kLinkageThreads);
  RoundsCuda rounds = begin;
  const std::int64_t n = rounds.scan.clusters.n, before = monitor.effort.distances;
  for (std::int64_t most = clusters; most > 1 && launches.fine();) {
    const std::int64_t merges = n - most, blocks = blocks_for(most, kLinkageThreads, kSurveyBlocks);
    if (!monitor(merges)) return false;
    const bool together = space.rounds_together(rounds, most, launches);
    const bool is_long = most * most * rounds.scan.clusters.padded > kLongRound;
    for (int ahead = together ? 0 : is_long ? 1 : kRoundsAhead; ahead > 0; --ahead) {
      launches.launch(survey_kernel, blocks, kLinkageThreads, shared, rounds);
      launches.launch(want_kernel, blocks, kLinkageThreads, 0, rounds, blocks);
      if (!space.scan(rounds, most, monitor, merges, launches)) return false;
      launches.launch(survey_kernel, blocks, kLinkageThreads, shared, rounds);
      launches.launch(choose_kernel, blocks, kLinkageThreads, 0, rounds, blocks);
      space.join(rounds, most, launches);
      space.repair(rounds, most, launches);
      rounds.turn();
    }
    RoundCounts counts{}, other{};
    launches.read(&counts, rounds.counts, 1);
    if (together) {  // how many rounds there were, and so whose turn it is, only the device knows
      launches.read(&other, rounds.next, 1);
      if (other.rounds > counts.rounds) {
        rounds.turn();
        counts = other;
      }
    }
    if (!launches.fine()) break;
    if (counts.stuck != 0) {
      launches.error = cudaErrorUnknown;
      break;
    }
    monitor.effort.rounds = counts.rounds;
    monitor.effort.distances = before + counts.distances;
    monitor.effort.screened = counts.screened;
    monitor.effort.open = counts.open;
    most = counts.count;
  }
  return true;
}

}  // namespace clustercl
