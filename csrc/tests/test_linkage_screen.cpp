// The screen's promise: nothing that is not listed lies below a list's largest bound, and listed bounds are bounds.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/linkage_screen.h"
#include "checks.h"
#include "threads.h"

using namespace clustercl;
using test::check, test::finish, test::for_each_isa;

static long double ward(const std::vector<double>& x, const std::vector<double>& sizes, std::int64_t d, int a, int b) {
  long double square = 0;
  for (std::int64_t f = 0; f < d; ++f) {
    const long double difference = static_cast<long double>(x[a * d + f]) - static_cast<long double>(x[b * d + f]);
    square += difference * difference;
  }
  return 2 * square / (1 / static_cast<long double>(sizes[a]) + 1 / static_cast<long double>(sizes[b]));
}

// Points about a few centres, `spread` wide; scale: of everything.
static void promise(int n, std::int64_t d, double spread, double scale, bool symmetric, Sums sums) {
  std::mt19937_64 random(n * 7 + d);
  std::normal_distribution<double> normal;
  std::vector<double> centres(5 * d), x(n * d), sizes(n);
  for (double& c : centres) c = normal(random) * scale;
  double largest = 0;
  for (int i = 0; i < n; ++i) {
    sizes[i] = static_cast<double>(1 + random() % 1000);
    for (std::int64_t f = 0; f < d; ++f) {
      x[i * d + f] = centres[i % 5 * d + f] + normal(random) * spread * scale;
      largest = std::max(largest, std::fabs(x[i * d + f]));
    }
  }
  int exponent;
  std::frexp(largest, &exponent);
  const double unit = std::ldexp(1.0, -exponent);
  std::vector<std::int64_t> all(n), some;
  for (int i = 0; i < n; ++i) {
    all[i] = i;
    if (symmetric || i % 3 == 1) some.push_back(i);
  }
  ScreenPack columns, rows;
  const ScreenPoints from{x.data(), d, sizes.data(), nullptr, unit, sums};
  columns.pack(from, all, nullptr, nullptr, true, test::threads(2));
  rows.pack(from, all, &some, nullptr, true, test::threads(2));
  for_each_isa([&](const char*) {
    const auto tile = CLUSTERCL_PICK(screen_tile);
    Screened nothing;
    for (int k = 0; k < kCandidates; ++k) {
      nothing.lower[k] = std::numeric_limits<float>::infinity();
      nothing.place[k] = -1;
    }
    std::vector<Screened> lists(some.size(), nothing);
    alignas(64) static float scratch[kBlock * kBlock];
    for (std::int64_t i = 0; i < rows.blocks(); ++i)
      for (std::int64_t j = symmetric ? i : 0; j < columns.blocks(); ++j)
        tile(rows.view(), columns.view(), d, i, j, symmetric, scratch, lists.data());
    for (std::size_t r = 0; r < some.size(); ++r) {
      std::vector<bool> listed(n);
      for (int k = 0; k < kCandidates; ++k) {
        const int place = lists[r].place[k];
        if (place < 0) continue;
        check(!listed[place] && place != some[r], "a cluster is listed once, and never in its own list");
        listed[place] = true;
        const long double exact = ward(x, sizes, d, static_cast<int>(some[r]), place) * unit * unit;
        check(static_cast<long double>(lists[r].lower[k]) <= exact, "a listed bound is a bound");
        check(k == 0 || lists[r].lower[k] >= lists[r].lower[k - 1], "bounds ascend");
      }
      for (int j = 0; j < n; ++j)
        if (j != some[r] && !listed[j])
          check(static_cast<long double>(lists[r].lower[kCandidates - 1]) <= ward(x, sizes, d, static_cast<int>(some[r]), j) * unit * unit,
                "what is not listed lies beyond");
    }
  });
}

int main() {
  for (const Sums sums : {Sums::products, Sums::differences})
    for (bool symmetric : {false, true})
      for (double scale : {1.0, 1e-30, 1e90})
        for (double spread : {1.0, 1e-3, 1e-9}) {
          promise(5, 3, spread, scale, symmetric, sums);
          promise(130, 1, spread, scale, symmetric, sums);
          promise(250, 40, spread, scale, symmetric, sums);
          promise(200, 333, spread, scale, symmetric, sums);
        }
  return finish();
}
