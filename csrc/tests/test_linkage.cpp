// Linkage: against the greedy algorithm by definition (ties included), every instruction set and thread count alike.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/linkage.h"
#include "checks.h"
#include "threads.h"

using namespace clustercl;
using test::check, test::finish, test::for_each_isa;

using Matrix = std::vector<double>;

static Matrix run(const Matrix& x, std::int64_t n, Linkage method, Metric metric, int threads,
                  Entries entries = Entries::full) {
  const std::int64_t d = static_cast<std::int64_t>(x.size()) / n;
  Matrix rows(n * padded_width(d)), z(4 * (n - 1));
  pad_rows(x.data(), n, d, d, 1, rows.data());
  prepare_rows(rows.data(), n, padded_width(d), metric);
  check(linkage(rows.data(), n, padded_width(d), method, metric, entries, test::threads(threads),
                Monitor{nullptr, nullptr}, z.data()),
        "ran to its end");
  return z;
}

// The definition: of all pairs of clusters the smallest (distance, smaller id, larger id) merges, a cluster's id being its
// smallest row, distances from all pairs of rows (average, complete, single) or from exact means (ward).
static Matrix greedy(const Matrix& x, std::int64_t n, Linkage method) {
  const std::int64_t d = static_cast<std::int64_t>(x.size()) / n;
  std::vector<std::vector<std::int64_t>> rows(n);
  std::vector<std::int64_t> label(n);
  Matrix z;
  for (std::int64_t i = 0; i < n; ++i) {
    rows[i] = {i};
    label[i] = i;
  }
  const auto distance = [&](const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
    const double size_a = static_cast<double>(a.size()), size_b = static_cast<double>(b.size());
    double square = 0, sum = 0, largest = 0, smallest = INFINITY;
    if (method == Linkage::ward) {
      for (std::int64_t f = 0; f < d; ++f) {
        double sum_a = 0, sum_b = 0;
        for (auto i : a) sum_a += x[i * d + f];
        for (auto i : b) sum_b += x[i * d + f];
        square += (sum_a / size_a - sum_b / size_b) * (sum_a / size_a - sum_b / size_b);
      }
      return std::sqrt(2 * size_a * size_b / (size_a + size_b) * square);
    }
    for (auto i : a)
      for (auto j : b) {
        square = 0;
        for (std::int64_t f = 0; f < d; ++f) square += (x[i * d + f] - x[j * d + f]) * (x[i * d + f] - x[j * d + f]);
        sum += std::sqrt(square);
        largest = std::fmax(largest, std::sqrt(square));
        smallest = std::fmin(smallest, std::sqrt(square));
      }
    return method == Linkage::average ? sum / (size_a * size_b) : method == Linkage::complete ? largest : smallest;
  };
  for (std::int64_t step = 0; step < n - 1; ++step) {
    double best = INFINITY;
    std::int64_t a = -1, b = -1;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = i + 1; j < n; ++j)
        if (!rows[i].empty() && !rows[j].empty() && distance(rows[i], rows[j]) < best) {
          best = distance(rows[i], rows[j]);
          a = i;
          b = j;
        }
    rows[a].insert(rows[a].end(), rows[b].begin(), rows[b].end());
    rows[b].clear();
    z.insert(z.end(), {static_cast<double>(std::min(label[a], label[b])), static_cast<double>(std::max(label[a], label[b])),
                       best, static_cast<double>(rows[a].size())});
    label[a] = n + step;
  }
  return z;
}

static void compare(const char* what, const Matrix& x, std::int64_t n, Linkage method) {
  const Matrix wanted = greedy(x, n, method), z = run(x, n, method, Metric::euclidean, 1);
  bool same = true;
  for (std::size_t k = 0; k < z.size(); ++k)  // ids and sizes equal; heights to the rounding of float64
    same &= k % 4 == 2 ? std::fabs(z[k] - wanted[k]) <= 1e-12 * (1 + wanted[k]) : z[k] == wanted[k];
  if (!same) std::printf("method %d, n %lld: ", static_cast<int>(method), static_cast<long long>(n));
  check(same, what);
}

static const Linkage kMethods[] = {Linkage::ward, Linkage::average, Linkage::complete, Linkage::single};

static void definition() {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  for (Linkage method : kMethods)
    for (const auto& [n, d] : {std::pair{2, 1}, {3, 2}, {10, 3}, {40, 1}, {60, 9}, {60, 33}}) {
      Matrix x(n * d);
      for (double& value : x) value = normal(random);
      compare("random data", x, n, method);
      // Ties: few integers, where single, complete and (in one dimension) average are free of rounding.
      for (int values : {1, 2, 3, 5}) {
        if (method == Linkage::ward && values > 1) continue;  // centroids round: ties are checked in Python, by tolerance
        const std::int64_t features = method == Linkage::average ? 1 : d;
        Matrix integers(n * features);
        for (double& value : integers) value = static_cast<double>(random() % values);
        compare("integers with ties", integers, n, method);
      }
    }
  // Ward ties that centroids of two and four keep exact.
  compare("corners of squares", {0, 0, 0, 1, 1, 0, 1, 1, 8, 0, 8, 1, 9, 0, 9, 1}, 8, Linkage::ward);
  compare("pairs on a line", {0, 2, 16, 18, 32, 34, 48, 50}, 8, Linkage::ward);
  Matrix growing(40);  // one merge per round
  for (int i = 0; i < 40; ++i) growing[i] = std::ldexp(1.0, i);
  for (Linkage method : kMethods) compare("growing gaps", growing, 40, method);
}

// Large enough that threads share the passes over the matrix.
static void same_bits() {
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  const std::int64_t n = 1300, d = 12;
  Matrix x(n * d), ties(n * 2);
  for (double& value : x) value = normal(random);
  for (double& value : ties) value = static_cast<double>(random() % 60);
  struct Case {
    const Matrix& x;
    Linkage method;
    Metric metric;
    Entries entries;
  };
  std::vector<Case> cases;
  for (Linkage method : kMethods) {
    cases.push_back({x, method, Metric::euclidean, Entries::full});
    cases.push_back({ties, method, Metric::euclidean, Entries::full});
    if (method != Linkage::ward) cases.push_back({x, method, Metric::cosine, Entries::full});
    if (method == Linkage::average || method == Linkage::complete) {
      cases.push_back({x, method, Metric::euclidean, Entries::half});
      cases.push_back({ties, method, Metric::euclidean, Entries::half});
    }
  }
  for (const Case& one : cases) {
    Matrix reference;
    for_each_isa([&](const char*) {
      for (int threads : {1, 2, 3}) {
        const Matrix z = run(one.x, n, one.method, one.metric, threads, one.entries);
        if (reference.empty()) reference = z;
        check(std::memcmp(z.data(), reference.data(), z.size() * sizeof(double)) == 0, "same bits everywhere");
      }
    });
  }
}

// Half the memory: complete rounds every distance once, to 27 digits; distances that these hold exactly give the same tree.
static void half() {
  std::mt19937_64 random(19);
  const std::int64_t n = 400;
  Matrix line(n);
  for (double& value : line) value = static_cast<double>(random() % 1000003);
  for (Linkage method : {Linkage::complete, Linkage::average}) {
    const Matrix full = run(line, n, method, Metric::euclidean, 1), z = run(line, n, method, Metric::euclidean, 1, Entries::half);
    const double digits = method == Linkage::complete ? 0 : 1e-7;
    for (std::size_t k = 2; k < z.size(); k += 4) check(std::fabs(z[k] - full[k]) <= digits * full[k], "heights of a line");
    if (method == Linkage::complete) check(z == full, "the tree of whole distances");
  }
}

// Large enough that threads share scans of a few rows too.
static void same_bits_when_rows_are_shared() {
  std::mt19937_64 random(17);
  std::normal_distribution<double> normal;
  const std::int64_t n = 1200, d = 2048;
  Matrix x(n * d);
  for (double& value : x) value = normal(random);
  for (std::int64_t f = 0; f < d; ++f) x[5 * d + f] = x[7 * d + f] = x[1100 * d + f];  // and some ties
  for (Linkage method : {Linkage::ward, Linkage::single, Linkage::average}) {
    const Matrix reference = run(x, n, method, Metric::euclidean, 1);
    for (int threads : {2, 3}) check(run(x, n, method, Metric::euclidean, threads) == reference, "same bits on threads");
  }
}

static void range() {
  std::mt19937_64 random(13);
  std::normal_distribution<double> normal;
  const std::int64_t n = 50;
  Matrix x(n * 3);
  for (double& value : x) value = normal(random);
  for (Linkage method : kMethods) {
    const Matrix z = run(x, n, method, Metric::euclidean, 1);
    for (double factor : {std::ldexp(1.0, 900), std::ldexp(1.0, -900)}) {
      Matrix scaled = x;
      for (double& value : scaled) value *= factor;
      Matrix big = run(scaled, n, method, Metric::euclidean, 1);
      for (std::size_t k = 2; k < big.size(); k += 4) big[k] /= factor;
      check(big == z, "a power of two changes the heights alone, even beyond the range of squares");
    }
  }
}

// Squares that underflow in float32, beside a row that makes them do so, must not hide duplicates or the order of the small.
static void tiny_beside_large() {
  Matrix x = {1e3, 0, 1e-20, 3e-20, 0, 7e-25, 3e-20, 1e-24};
  for (Linkage method : {Linkage::single, Linkage::average, Linkage::complete}) compare("tiny beside large", x, 8, method);
}

static void stops() {
  for (Linkage method : kMethods) {
    std::int64_t calls = 0;
    const Monitor monitor{[](void* context, const Effort&) { return ++*static_cast<std::int64_t*>(context) < 3; }, &calls};
    Matrix rows(200 * 8), z(4 * 199);
    std::mt19937_64 random(5);
    for (double& value : rows) value = static_cast<double>(random() % 1000003);
    check(!linkage(rows.data(), 200, 8, method, Metric::euclidean, Entries::full, test::threads(1), monitor, z.data()),
          "stopped");
    check(calls == 3, "and did not ask again");
  }
}

// Adding up the distances of equal rows takes as long as a scan of all: users may want to stop within it too.
static void stops_where_rows_are_equal() {
  std::int64_t calls = 0;
  const Monitor monitor{[](void* context, const Effort&) { return ++*static_cast<std::int64_t*>(context) < 50; }, &calls};
  Matrix rows(400 * 8), z(4 * 399);
  std::mt19937_64 random(5);
  for (std::size_t k = 0; k < rows.size() / 2; ++k) rows[k] = rows[k + rows.size() / 2] = static_cast<double>(random() % 1000003);
  check(!linkage(rows.data(), 400, 8, Linkage::average, Metric::euclidean, Entries::full, Parallel::alone(), monitor,
                 z.data()),
        "stopped");
  check(calls == 50 && monitor.effort.rounds == 0, "before the first round");
}

int main() {
  definition();
  same_bits();
  half();
  same_bits_when_rows_are_shared();
  range();
  tiny_beside_large();
  stops();
  stops_where_rows_are_equal();
  return finish();
}
