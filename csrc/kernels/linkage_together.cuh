// Many rounds of linkage_rounds.cuh in one launch, for few clusters: a launch takes longer than its step then. Blocks meet between
// steps (meeting.cuh), and each repair surveys what it leaves, so that a round in which nobody scans has three steps.
#pragma once

#include "linkage_steps.cuh"

namespace clustercl {

// The host executor has one block, and few clusters, that are to go both ways.
#if defined(CLUSTERCL_SIMT)
constexpr int kTogetherRounds = 3;
constexpr std::int64_t few_clusters(std::int64_t) { return 24; }
#else
constexpr int kTogetherRounds = 256;
constexpr std::int64_t few_clusters(std::int64_t most) { return most; }
#endif

// Space: kThreads; scan(rounds, wait), of which wait() parts the steps; join(rounds), which settles too; distances().
template <class Space>
__global__ void __launch_bounds__(Space::kThreads) rounds_together_kernel(RoundsCuda rounds, Survey* surveys, Space space) {
  Together together(&rounds.counts->meeting);
  const auto wait = [&] { together.wait([] {}); };
  survey(rounds, surveys);
  wait();
  for (int round = 0; round < kTogetherRounds && rounds.counts->count > 1; ++round) {
    Survey all = of_all(surveys, gridDim.x);
    if (any_wants(rounds, all)) {
      want(rounds, all);
      wait();
      space.scan(rounds, wait);
      wait();
      survey(rounds, surveys);
      wait();
      all = of_all(surveys, gridDim.x);
    }
    choose(rounds, all);
    wait();
    space.join(rounds);
    list_left(rounds);
    wait();
    Survey own = of_none();
    repair(rounds, space.distances(), [&](std::int32_t i) {
      if (threadIdx.x % kWarp == 0) own = both(own, of_cluster(rounds.scan.clusters, i));
    });
    tell_survey(own, surveys);
    together.wait([&] { close_round(rounds); });
    std::int32_t* const left = rounds.left;
    rounds.left = rounds.active;
    rounds.active = left;
  }
}

}  // namespace clustercl
