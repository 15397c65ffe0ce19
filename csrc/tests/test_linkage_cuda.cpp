// The CUDA linkage of linkage_cuda.h, on the host executor or a GPU: the tree of the CPU's linkage, ties included.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "device.h"
#include "kernels/linkage_cuda.h"
#include "threads.h"

using namespace clustercl;

// How often the host may wait for the device: once a round, or twice a round of single's, which halves the trees at least, and
// for the rows' range (6 times where they are scaled), their middle (3), equal rows (5) and the tree (3), and once more where rounds
// go on together.
static std::int64_t waits_allowed(Linkage method, std::int64_t n, std::int64_t rounds_done) {
  if (method == Linkage::single)
    for (std::int64_t trees = 1; trees < n; trees *= 2) rounds_done += 2;
  return rounds_done + 18;
}

static int failures = 0;
static std::int64_t rounds = 0;

using Rows = std::vector<double>;

static const char* name_of(Linkage method) {
  return method == Linkage::ward ? "ward" : method == Linkage::average ? "average" : method == Linkage::complete ? "complete" : "single";
}

static Rows padded_rows(const Rows& x, std::int64_t n, Metric metric) {
  const std::int64_t d = static_cast<std::int64_t>(x.size()) / n;
  Rows rows(n * padded_width(d));
  pad_rows(x.data(), n, d, d, 1, rows.data());
  prepare_rows(rows.data(), n, padded_width(d), metric);
  return rows;
}

static bool stop(void*, const Effort& effort) { return effort.merges == 0; }

// Heights may differ by `tolerance` of the largest.
static Effort compare(const std::string& what, const Rows& x, std::int64_t n, Linkage method, Metric metric = Metric::euclidean,
                      Entries entries = Entries::full, double tolerance = 0) {
  Rows rows = padded_rows(x, n, metric);
  const std::int64_t padded = static_cast<std::int64_t>(rows.size()) / n;
  test::Device<double> device(rows);
  const LinkageCuda in{n, padded, method, metric, entries};
  test::Device<unsigned char> workspace(std::vector<unsigned char>(linkage_cuda_workspace(in), 0xa5));
  Rows wanted(4 * (n - 1)), z(4 * (n - 1), -1.0);
  linkage(rows.data(), n, padded, method, metric, entries, test::threads(2), Monitor{nullptr, nullptr}, wanted.data());
  bool finished = false;
  const Monitor monitor{nullptr, nullptr};
  const std::int64_t before = test::waits();
  const cudaError_t error = linkage_cuda(in, device.get(), workspace.get(), test::threads(2), monitor, z.data(), finished, nullptr);
  rounds += monitor.effort.rounds;
  const std::int64_t waited = test::waits() - before;
  if (waited > waits_allowed(method, n, monitor.effort.rounds)) {
    std::printf("%s, %s, n %ld: the host waited %ld times, in %ld rounds\n", what.c_str(), name_of(method), static_cast<long>(n),
                static_cast<long>(waited), static_cast<long>(monitor.effort.rounds));
    ++failures;
  }
  if (test::running() > 0) {
    std::printf("%s, %s, n %ld: the host did not wait for the last launches\n", what.c_str(), name_of(method), static_cast<long>(n));
    ++failures;
  }
  const double allowed = tolerance * wanted[4 * (n - 1) - 2];
  for (std::int64_t m = 0; m < n - 1 && error == cudaSuccess && finished; ++m) {
    bool same = std::fabs(z[4 * m + 2] - wanted[4 * m + 2]) <= allowed;
    for (const int k : {0, 1, 3}) same = same && z[4 * m + k] == wanted[4 * m + k];
    if (same) continue;
    std::printf("%s, %s, n %ld: merge %ld is %g %g %.17g %g, the CPU has %g %g %.17g %g\n", what.c_str(), name_of(method),
                static_cast<long>(n), static_cast<long>(m), z[4 * m], z[4 * m + 1], z[4 * m + 2], z[4 * m + 3], wanted[4 * m],
                wanted[4 * m + 1], wanted[4 * m + 2], wanted[4 * m + 3]);
    ++failures;
    return monitor.effort;
  }
  if (error == cudaSuccess && finished) return monitor.effort;
  std::printf("%s, %s, n %ld: error %d, finished %d\n", what.c_str(), name_of(method), static_cast<long>(n), error, finished);
  ++failures;
  return monitor.effort;
}

// Ward: a screen that decides nothing gives the right tree as well, by scans in float64.
static void compare_screened(const std::string& what, const Rows& x, std::int64_t n) {
  const Effort effort = compare(what, x, n, Linkage::ward);
  if (effort.screened >= n && effort.open * 10 < effort.screened) return;
  std::printf("%s, n %ld: of %ld clusters that looked at a screen %ld were left open\n", what.c_str(), static_cast<long>(n),
              static_cast<long>(effort.screened), static_cast<long>(effort.open));
  ++failures;
}

static Rows normal(std::int64_t n, std::int64_t d, unsigned seed, double centre = 0) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> one;
  Rows x(n * d);
  for (double& value : x) value = centre + one(random);
  return x;
}

static Rows integers(std::int64_t n, std::int64_t d, int most, unsigned seed) {
  std::mt19937_64 random(seed);
  Rows x(n * d);
  for (double& value : x) value = static_cast<double>(random() % most);
  return x;
}

// Steps of 0.1 around two places away from 0: no distance is exact, and which are equal as computed depends on the order in
// which squares are added.
static Rows lattice(std::int64_t n, std::int64_t d, unsigned seed) {
  Rows x = integers(n, d, 3, seed);
  for (std::int64_t k = 0; k < n * d; ++k) x[k] = 0.1 * x[k] + (k / d % 2 == 0 ? -10 : 10);
  return x;
}

// Steps of 0.1 in a plane, shuffled: many distances tie but for their last digits, and most rows lie too far apart for differences.
static Rows grid(std::int64_t side, unsigned seed) {
  std::vector<std::int64_t> order(side * side);
  for (std::int64_t i = 0; i < side * side; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  Rows x;
  for (const std::int64_t i : order) x.insert(x.end(), {0.1 * static_cast<double>(i / side), 0.1 * static_cast<double>(i % side)});
  return x;
}

static Rows spread(std::int64_t n, std::int64_t d, double apart) {
  Rows blobs = normal(n, d, 9);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t f = 0; f < d; ++f) blobs[i * d + f] += apart * static_cast<double>(i % 5 == f);
  return blobs;
}

// `distinct` rows, each several times and far from its copies.
static Rows copied(std::int64_t n, std::int64_t distinct, std::int64_t d, unsigned seed) {
  const Rows x = normal(distinct, d, seed);
  Rows all;
  for (std::int64_t i = 0; i < n; ++i) all.insert(all.end(), &x[i * i % distinct * d], &x[i * i % distinct * d] + d);
  return all;
}

// In rounds copies would take one each: the largest of these groups has more than a third of the rows.
static void compare_copies(Linkage method, Entries entries, double tolerance) {
  constexpr std::int64_t n = 210;
  for (const std::int64_t distinct : {1, 2, 30}) {
    Rows x = copied(n, distinct, 9, 40);
    for (std::int64_t i = 0; i < n; ++i)
      if (x[i * 9] > 0) x[i * 9 + 5] = 1e-200;  // its square underflows, but no two rows are that near
    for (std::int64_t i = 0; i < n; i += 3) std::copy_n(&x[0], 9, &x[i * 9]);
    const Effort effort = compare("copies", x, n, method, Metric::euclidean, entries, tolerance);
    if (effort.rounds <= n / 3) continue;
    std::printf("copies, %s: %ld rounds\n", name_of(method), static_cast<long>(effort.rounds));
    ++failures;
  }
  // Rows that differ in such numbers alone are at distance 0 and not equal: the rounds merge them all.
  Rows x = copied(40, 8, 3, 41);
  for (std::int64_t i = 0; i < 40; i += 2) x[i * 3] = (i / 4 % 2 + 1) * 1e-170;
  compare("copies and the smallest", x, 40, method, Metric::euclidean, entries, tolerance);
}

#if !defined(CLUSTERCL_SIMT)
// So many that a GPU takes screens, by wgmma up to 256 features and by mma.sync, and that rounds are begun one by one at first and
// many together then.
static void compare_many_shortly(bool wgmma) {  // for compute-sanitizer: one of each
  for (const Linkage method : {Linkage::ward, Linkage::single})
    compare("many", normal(2100, wgmma ? (method == Linkage::ward ? 9 : 200) : 300, 13), 2100, method);
  if (!wgmma) compare("many", normal(4100, 9, 15), 4100, Linkage::average, Metric::euclidean, Entries::full, 1e-12);
}

static void compare_many() {
  for (const std::int64_t d : {9, 200, 300}) {
    compare_screened("many", normal(3000, d, 13), 3000);
    compare("many", normal(3000, d, 13), 3000, Linkage::single);
  }
  for (const Linkage method : {Linkage::ward, Linkage::single}) {
    for (const double apart : {30.0, 3e3, 3e6}) compare("many blobs", spread(2500, 8, apart), 2500, method);
    compare("many ties", integers(2600, 2, 60, 14), 2600, method);
  }
  for (const Linkage method : {Linkage::average, Linkage::complete})
    compare("many", normal(4500, 9, 15), 4500, method, Metric::euclidean, Entries::full, method == Linkage::average ? 1e-12 : 0);
}
#endif

// What linkage_cuda.h promises: ward and single have no array of size n^2.
static void compare_memory() {
  for (const std::int64_t n : {100'000, 1'000'000})
    for (const Linkage method : {Linkage::ward, Linkage::single}) {
      const std::int64_t padded = 128, bytes = linkage_cuda_workspace({n, padded, method, Metric::euclidean, Entries::full});
      const std::int64_t promised = n * (2 * 4 * padded + 430) + (10 << 20);
      if (bytes <= promised) continue;
      std::printf("%s, n %ld: %ld bytes, %ld promised\n", name_of(method), static_cast<long>(n), static_cast<long>(bytes),
                  static_cast<long>(promised));
      ++failures;
    }
}

// A word keeps the checks to few, or to those by wgmma, for compute-sanitizer, under which they take a hundred times as long.
int main(int count, char** words) {
  const std::string only = count > 1 ? words[1] : "";
  compare_memory();
#if !defined(CLUSTERCL_SIMT)
  if (only.empty()) compare_many();
  else compare_many_shortly(only == "wgmma");
#else
  compare_screened("screened", normal(300, 33, 3), 300);
#endif
  // Rounding in another order moves heights of average by this much at most, here.
  constexpr double kRounding = 1e-13;
  for (const Linkage method : {Linkage::ward, Linkage::average, Linkage::complete, Linkage::single}) {
    const bool dense = method == Linkage::average || method == Linkage::complete;
    const double tolerance = method == Linkage::average ? kRounding : 0;
    if (only == "wgmma") break;
    for (const std::int64_t n : {2, 3, 17, 140})  // 140: several blocks and parts, none full; on the executor the screen
      for (const std::int64_t d : {1, 33}) {
        if (only == "few" && n < 140 && d == 33) continue;
        compare("normal", normal(n, d, 3), n, method, Metric::euclidean, Entries::full, tolerance);
        if (n == 17) test::other_order(true);
      }
    compare("far from 0", normal(60, 9, 5, 1e6), 60, method, Metric::euclidean, Entries::full, tolerance);
    compare("tiny", [] { Rows x = normal(40, 3, 6); for (double& v : x) v *= 1e-120; return x; }(), 40, method, Metric::euclidean, Entries::full, tolerance);
    // In one dimension distances are whole numbers, of which sums are exact. Ties merge one a round.
    const std::int64_t tied = method == Linkage::ward ? 140 : 50;
    compare("ties", integers(tied, method == Linkage::average ? 1 : 2, 6, 7), tied, method, Metric::euclidean, Entries::full, tolerance);
    compare_copies(method, Entries::full, tolerance);
    if (dense) compare_copies(method, Entries::half, 1e-7);
    if (method != Linkage::ward) compare("cosine", normal(90, 7, 8), 90, method, Metric::cosine, Entries::full, tolerance);
    for (unsigned seed = 0; seed < (only == "few" ? 2 : 6) && method != Linkage::ward; ++seed)
      compare("lattice", lattice(24, 9, 20 + seed), 24, method, Metric::euclidean, Entries::full, tolerance);
    if (only != "few")  // 18 rows, up to 8 times each: sums of so many equal distances are rounded
      compare("copies of a lattice", lattice(100, 2, 21), 100, method, Metric::euclidean, Entries::full, tolerance);
    if (only != "few") compare("grid", grid(12, 22), 144, method, Metric::euclidean, Entries::full, tolerance);
    Rows line(30);  // growing gaps: one merge a round
    for (std::size_t i = 0; i < line.size(); ++i) line[i] = std::pow(1.1, static_cast<double>(i));
    compare("line", line, 30, method, Metric::euclidean, Entries::full, tolerance);
    // All equally far from each other but for their last digits: too few scans are earned for all at once.
    Rows simplex(40 * 40, 0.0);
    for (std::int64_t i = 0; i < 40; ++i) simplex[i * 41] = 1.0 + 1e-13 * static_cast<double>(i);
    compare("simplex", simplex, 40, method, Metric::euclidean, Entries::full, tolerance);
    // The farther apart, the less float16 and then float32 tell of what lies close together: screens leave rows open.
    for (const double apart : {30.0, 3e3, 3e6}) {
      if (only == "few" && (dense || apart < 3e6)) continue;
      compare("blobs", spread(300, 8, apart), 300, method, Metric::euclidean, Entries::full, tolerance);
    }
    if (dense) compare("half", normal(80, 6, 10), 80, method, Metric::euclidean, Entries::half, 1e-7);
    test::other_order(false);
#if defined(CLUSTERCL_SIMT)  // of a GPU nobody can ask this
    for (const int every : {1, 2}) {
      test::refuse_together(every);
      for (const std::int64_t n : {2, 17, 60})
        compare("refused", normal(n, 4, 12), n, method, Metric::euclidean, Entries::full, tolerance);
    }
    test::refuse_together(0);
#endif
  }

  // Told to stop, it stops, and says so.
  const Rows x = padded_rows(normal(50, 4, 11), 50, Metric::euclidean);
  for (const Linkage method : {Linkage::ward, Linkage::average, Linkage::single}) {
    test::Device<double> device(x);
    const LinkageCuda in{50, 8, method, Metric::euclidean, Entries::full};
    test::Device<unsigned char> workspace(std::vector<unsigned char>(linkage_cuda_workspace(in), 0));
    Rows z(4 * 49, -1.0);
    bool finished = true;
    const cudaError_t error = linkage_cuda(in, device.get(), workspace.get(), test::threads(1), Monitor{stop, nullptr}, z.data(),
                                           finished, nullptr);
    if (error != cudaSuccess || finished || z[0] != -1.0) {
      std::printf("%s did not stop\n", name_of(method));
      ++failures;
    }
  }
  std::printf("%d failures, %ld rounds\n", failures, static_cast<long>(rounds));
  return failures != 0;
}
