// What linkage_duplicates_cuda.cu does before and at the beginning of the rounds.
#pragma once

#include "linkage_cuda.cuh"
#include "linkage_duplicates.h"

namespace clustercl {

// Appends the merges of equal rows. Waits for the stream. What is known of clusters is overwritten.
Distinct merge_duplicates_cuda(const ClustersCuda& clusters, std::vector<Merge>& merges, Launches& launches);

inline std::int64_t count_of(const Distinct& distinct, std::int64_t n) {
  return distinct.some() ? static_cast<std::int64_t>(distinct.row.size()) : n;
}

// The distinct rows, and after begin_clusters the sizes of clusters. Where all differ there is nothing to write.
void list_distinct(const Distinct& distinct, std::int32_t* list, Launches& launches);
void count_copies(const ClustersCuda& clusters, const Distinct& distinct, Launches& launches);

}  // namespace clustercl
