// The two algorithms for a minimum spanning tree: the same lengths, a tree, and which rows the screen is unfit for.
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "kernels/linkage_single.h"
#include "checks.h"
#include "threads.h"

using namespace clustercl;
using test::check, test::finish, test::for_each_isa;

struct Rows {
  Rows(std::int64_t n, std::int64_t d) : n(n), d(d), padded(padded_width(d)), x(n * padded, 0.0) {}
  double& operator()(std::int64_t i, std::int64_t f) { return x[i * padded + f]; }
  std::int64_t n, d, padded;
  std::vector<double> x;
};

static Rows gaussian(std::int64_t n, std::int64_t d, int seed = 0) {
  std::mt19937_64 random(n + d + seed);
  std::normal_distribution<double> normal;
  Rows rows(n, d);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t f = 0; f < d; ++f) rows(i, f) = normal(random);
  return rows;
}

// About `centres` points that lie `apart`, in any order of the rows.
static Rows blobs(std::int64_t n, std::int64_t d, int centres, double apart, int seed = 0) {
  Rows rows = gaussian(n, d, seed);
  const Rows middle = gaussian(centres, d, seed);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t f = 0; f < d; ++f) rows(i, f) += apart * middle.x[i * 7919 % centres * middle.padded + f];
  return rows;
}

// Every point of a grid: its sides are as long as each other.
static Rows grid(std::int64_t side) {
  Rows rows(side * side, 2);
  for (std::int64_t i = 0; i < side * side; ++i) {
    rows(i * 409 % (side * side), 0) = static_cast<double>(i / side);
    rows(i * 409 % (side * side), 1) = static_cast<double>(i % side);
  }
  return rows;
}

// Parts within parts: rows look again for every level.
static Rows levels() {
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  Rows rows(1024, 6);
  for (std::int64_t f = 0; f < 6; ++f)
    for (std::int64_t part = 4, level = 0; part <= 1024; part *= 4, ++level)
      for (std::int64_t k = 0; k < part; ++k) {
        const double step = std::ldexp(normal(random), static_cast<int>(-2 * level));
        for (std::int64_t i = k * (1024 / part); i < (k + 1) * (1024 / part); ++i) rows(i, f) += step;
      }
  return rows;
}

// Some rows lie nearer to each other than products in float32 can tell (near 1e-3) or than differences can (1e-7), in two parts
// that do so, too.
static Rows with_tight(Rows rows, std::int64_t count, double near) {
  for (std::int64_t i = 1; i < count; ++i)
    for (std::int64_t f = 0; f < rows.d; ++f) rows(i * 3, f) = rows(0, f) + near * rows(i * 3, f) + (i % 2 == 0 ? 0 : 10 * near);
  return rows;
}

static Rows far_from_zero(Rows rows) {
  for (std::int64_t i = 0; i < rows.n; ++i)
    for (std::int64_t f = 0; f < rows.d; ++f) rows(i, f) += std::ldexp(1.0, 20);
  return rows;
}

// Beside a column that is the same for all there is nothing but numbers near to the smallest: no power of two makes them large.
static Rows denormal(double step) {
  Rows rows(1000, 2);
  for (std::int64_t i = 0; i < rows.n; ++i) {
    rows(i, 0) = 1;
    rows(i, 1) = static_cast<double>(i * 409 % rows.n) * step;
  }
  return rows;
}

static Rows one_hot(std::int64_t n) {
  Rows rows(n, n);
  for (std::int64_t i = 0; i < n; ++i) rows(i, i) = 1;
  return rows;
}

static std::vector<double> lengths(const std::vector<Edge>& edges) {
  std::vector<double> out;
  for (const Edge& edge : edges) out.push_back(edge.square);
  std::sort(out.begin(), out.end());
  return out;
}

static bool is_tree(const std::vector<Edge>& edges, const Rows& rows) {
  std::vector<std::int64_t> parent(rows.n);
  for (std::int64_t i = 0; i < rows.n; ++i) parent[i] = i;
  const std::function<std::int64_t(std::int64_t)> root = [&](std::int64_t i) {
    return parent[i] == i ? i : parent[i] = root(parent[i]);
  };
  for (const Edge& edge : edges) {
    double square;
    CLUSTERCL_PICK(row_squares)(rows.x.data(), rows.padded, edge.a, &edge.b, 1, &square);
    if (square != edge.square || root(edge.a) == root(edge.b)) return false;
    parent[root(edge.a)] = root(edge.b);
  }
  return static_cast<std::int64_t>(edges.size()) == rows.n - 1;
}

static void compare(const char* data, const Rows& rows, bool fit = true) {
  const Monitor monitor{nullptr, nullptr};
  std::vector<double> wanted;
  for_each_isa([&](const char*) {
    for (int threads : {1, 3}) {
      std::vector<Edge> one, other;
      check(span_by_rows(rows.x.data(), rows.n, rows.padded, test::threads(threads), monitor, one), "Prim ran to its end", data);
      if (wanted.empty()) wanted = lengths(one);
      check(is_tree(one, rows) && lengths(one) == wanted, "Prim's is the tree", data);
      const Spanned spanned = span_by_rounds(rows.x.data(), rows.n, rows.padded, test::threads(threads), monitor, other);
      check(spanned == (fit ? Spanned::finished : Spanned::unfit), "fit or not", data);
      if (fit) check(is_tree(other, rows) && lengths(other) == wanted, "the rounds' is the tree", data);
      if (!fit) check(other.empty(), "unfit leaves no edges", data);
    }
  });
}

// Which rows look again in a round hangs on bounds that one kind of data seldom comes near to.
static void many_parts(const Rows& rows) {
  const Monitor monitor{nullptr, nullptr};
  std::vector<Edge> one, other;
  span_by_rows(rows.x.data(), rows.n, rows.padded, Parallel::alone(), monitor, one);
  span_by_rounds(rows.x.data(), rows.n, rows.padded, Parallel::alone(), monitor, other);
  check(is_tree(other, rows) && lengths(one) == lengths(other), "the rounds' is the tree", "many parts");
}

// Rows of one Gaussian become one part at once, of which nobody looks again.
static void looks_once() {
  const Rows rows = gaussian(3000, 20);
  const Monitor monitor{nullptr, nullptr};
  std::vector<Edge> edges;
  span_by_rounds(rows.x.data(), rows.n, rows.padded, test::threads(2), monitor, edges);
  const double scans = static_cast<double>(monitor.effort.distances) / (3000.0 * 3000.0);
  check(scans < 0.6, "half a scan, a sample and a few rows", "gaussian");
}

static void stops() {
  const Rows rows = with_tight(blobs(900, 5, 20, 10), 40, 1e-7);
  for (std::int64_t after = 0, calls = 1; calls > after; ++after) {
    calls = 0;
    std::int64_t context[] = {after, 0};
    const Monitor monitor{[](void* state, const Effort&) {
                            auto* const pair = static_cast<std::int64_t*>(state);
                            return ++pair[1] <= pair[0];
                          },
                          context};
    std::vector<Edge> edges;
    const Spanned spanned = span_by_rounds(rows.x.data(), rows.n, rows.padded, Parallel::alone(), monitor, edges);
    calls = context[1];
    check(spanned == (calls > after ? Spanned::stopped : Spanned::finished), "stopped wherever it was asked", "blobs");
    check(calls <= after + 1, "and did not ask again", "blobs");
    if (test::failures) return;
  }
}

int main() {
  compare("gaussian", gaussian(1000, 1));
  compare("gaussian", gaussian(1003, 3));
  compare("gaussian", gaussian(2500, 40));
  compare("wide rows", gaussian(810, 1500));
  compare("blobs", blobs(2000, 12, 10, 30));
  compare("two blobs", blobs(1200, 12, 2, 20));
  compare("levels", levels());
  compare("equal lengths", grid(33));
  compare("far from 0", far_from_zero(blobs(1000, 8, 5, 3)));
  compare("some rows near to each other", with_tight(gaussian(1500, 10), 60, 1e-3));
  compare("many rows near to each other", with_tight(gaussian(1500, 10), 400, 1e-3));
  compare("some rows very near to each other", with_tight(gaussian(1500, 10), 60, 1e-7));
  compare("many rows very near to each other", with_tight(gaussian(1500, 10), 250, 1e-7), false);
  compare("equally far", one_hot(820), false);
  compare("denormal", denormal(5e-324));
  compare("nearly denormal", denormal(1e-300));
  compare("few rows", gaussian(700, 4), false);
  for (int seed = 0; seed < 30; ++seed) many_parts(blobs(800, 2, 20, 12, seed));
  looks_once();
  stops();
  return finish();
}
