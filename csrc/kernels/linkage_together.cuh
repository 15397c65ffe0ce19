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

// Space: kThreads; scan(rounds, wait), of which wait() parts the steps; join(rounds); distances().
template <class Space>
__global__ void __launch_bounds__(Space::kThreads) rounds_together_kernel(RoundsCuda rounds, Space space) {
  Together together(rounds.meeting);
  const auto wait = [&] { together.wait(); };
  survey(rounds);
  wait();
  for (int round = 0; round < kTogetherRounds; ++round) {
    const std::int32_t count = rounds.counts->count;  // read together with the surveys
    Survey all = of_all(rounds, gridDim.x);
    if (count <= 1) break;
    if (any_wants(rounds, all)) {
      want(rounds, all);
      wait();
      space.scan(rounds, wait);
      wait();
      survey(rounds);
      wait();
      all = of_all(rounds, gridDim.x);
    }
    choose(rounds, all);
    wait();
    space.join(rounds);
    list_left(rounds);
    close_round(rounds);
    wait();
    tell_survey(rounds, repair(rounds, space.distances()));
    wait();
    rounds.turn();
  }
}

}  // namespace clustercl
