// The contrastive loss: every instruction set, precision and mode against sums written out in long double.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/contrastive.h"
#include "checks.h"
#include "threads.h"

using namespace clustercl;
using test::check, test::finish, test::for_each_isa;

template <class T>
struct Problem {
  std::vector<T> rows;
  std::vector<std::int64_t> image, label;
  std::int64_t d;
  SameClass same_class = SameClass::exclude;
  double temperature = 0.1;
  bool normalize = true;
  std::int64_t first = 0, count = -1;
  std::vector<double> level_weight = {};  // with a part of label each, one after the other

  std::int64_t n() const { return static_cast<std::int64_t>(image.size()); }
  Contrastive<T> input() const {
    return {rows.data(), n(), d, d, 1, image.data(), label.data(), -1, same_class, temperature, normalize, first,
            count < 0 ? n() : count, static_cast<int>(level_weight.size()), level_weight.data()};
  }
};

template <class T>
struct Answer {
  std::vector<T> loss, lse, grad;
  double grad_temperature = 0;
};

template <class T>
static Answer<T> run(const Problem<T>& p, const std::vector<T>& grad_loss, int threads) {
  const auto in = p.input();
  Answer<T> out{std::vector<T>(in.count), std::vector<T>(in.count), std::vector<T>(p.rows.size()), 0};
  contrastive_forward(in, test::threads(threads), out.loss.data(), out.lse.data());
  contrastive_backward(in, test::threads(threads), out.lse.data(), grad_loss.data(), out.grad.data(), &out.grad_temperature);
  return out;
}

// The definition, one row after the other; a_ij is added to both rows' gradients.
template <class T>
static Answer<long double> truth(const Problem<T>& p, const std::vector<T>& grad_loss) {
  using L = long double;
  const std::int64_t n = p.n(), d = p.d;
  const auto in = p.input();
  std::vector<L> u(n * d), norm(n, 1), pull(n * d);
  for (std::int64_t i = 0; i < n; ++i) {
    L square = 0;
    for (std::int64_t f = 0; f < d; ++f) square += static_cast<L>(p.rows[i * d + f]) * static_cast<L>(p.rows[i * d + f]);
    if (p.normalize) norm[i] = std::sqrt(square);
    for (std::int64_t f = 0; f < d; ++f) u[i * d + f] = norm[i] == 0 ? 0 : static_cast<L>(p.rows[i * d + f]) / norm[i];
  }
  Answer<L> out{std::vector<L>(in.count), {}, std::vector<L>(n * d), 0};
  L grad_temperature = 0;
  for (std::int64_t i = in.first; i < in.first + in.count; ++i) {
    std::vector<L> s(n), weight(n, 1);
    std::vector<bool> kept(n), positive(n);
    L most = -INFINITY, sum = 0, mean = 0;
    int positives = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t f = 0; f < d; ++f) s[j] += u[i * d + f] * u[j * d + f] / static_cast<L>(p.temperature);
      const bool mate = p.image[i] == p.image[j] && i != j;
      const bool same = p.label[i] == p.label[j] && p.label[i] != -1 && p.image[i] != p.image[j];
      positive[j] = mate || (same && p.same_class == SameClass::attract);
      for (std::size_t l = 0; l < p.level_weight.size(); ++l)
        if (!mate && p.label[l * n + i] == p.label[l * n + j] && p.label[l * n + i] != -1) weight[j] *= p.level_weight[l];
      if (p.level_weight.empty() && same && p.same_class == SameClass::exclude) weight[j] = 0;
      kept[j] = i != j && weight[j] > 0;
      positives += positive[j];
      if (kept[j] && s[j] > most) most = s[j];
    }
    for (std::int64_t j = 0; j < n; ++j) {
      if (kept[j]) sum += weight[j] * std::exp(s[j] - most);
      if (positive[j]) mean += s[j] / positives;
    }
    out.loss[i - in.first] = most + std::log(sum) - mean;
    for (std::int64_t j = 0; j < n; ++j) {
      L a = kept[j] ? weight[j] * std::exp(s[j] - most) / sum : 0;
      if (positive[j]) a -= static_cast<L>(1) / positives;
      a *= static_cast<L>(grad_loss[i - in.first]);
      grad_temperature -= a * s[j] / static_cast<L>(p.temperature);
      for (std::int64_t f = 0; f < d; ++f) {
        pull[i * d + f] += a * u[j * d + f] / static_cast<L>(p.temperature);
        pull[j * d + f] += a * u[i * d + f] / static_cast<L>(p.temperature);
      }
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    L along = 0;
    for (std::int64_t f = 0; f < d; ++f) along += u[i * d + f] * pull[i * d + f];
    for (std::int64_t f = 0; f < d; ++f) {
      const L tangent = p.normalize ? pull[i * d + f] - u[i * d + f] * along : pull[i * d + f];
      out.grad[i * d + f] = norm[i] == 0 ? 0 : tangent / norm[i];
    }
  }
  out.grad_temperature = static_cast<double>(grad_temperature);
  return out;
}

template <class T>
static bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T>
static void against_truth(std::int64_t images, std::int64_t views, std::int64_t d, SameClass same_class, double temperature,
                          bool part, const std::vector<double>& level_weight = {}) {
  std::mt19937_64 random(images * 31 + d);
  std::normal_distribution<double> normal;
  Problem<T> p{{}, {}, {}, d, same_class, temperature, d != 5, 0, -1, level_weight};
  const std::int64_t n = images * views;
  for (std::int64_t i = 0; i < n; ++i) {
    p.image.push_back(7 * (i % images) - 3);
    p.label.push_back(i % images % 4 - 1);
    for (std::int64_t f = 0; f < d; ++f) p.rows.push_back(static_cast<T>(normal(random)));
  }
  for (std::size_t l = 1; l < level_weight.size(); ++l)  // finer and finer
    for (std::int64_t i = 0; i < n; ++i) p.label.push_back(i % images % (4 << l) - 1);
  if (p.normalize)
    for (std::int64_t f = 0; f < d; ++f) p.rows[d + f] = 0;  // a row without direction
  if (part) {
    p.first = n / 3;
    p.count = n / 4 + 1;
  }
  std::vector<T> grad_loss(p.input().count);
  for (T& g : grad_loss) g = static_cast<T>(normal(random) + 0.5) / static_cast<T>(n);
  const auto wanted = truth(p, grad_loss);
  // A product carries at most d roundings of T and enters exponents divided by the temperature; gradients are sums of n
  // such terms, compared with their largest element.
  const double rounding = std::numeric_limits<T>::epsilon() / 2 * (8 + std::sqrt(static_cast<double>(d)));
  const double size = p.normalize ? 1 : static_cast<double>(d) * 8;
  const double tolerance = 4 * rounding * (1 + size / temperature);
  for_each_isa([&](const char*) {
    const auto out = run(p, grad_loss, 1);
    for (std::size_t i = 0; i < out.loss.size(); ++i)
      check(std::fabs(static_cast<double>(out.loss[i] - wanted.loss[i])) <= tolerance, "loss of a row");
    long double largest = 0, worst = 0;
    for (std::size_t i = 0; i < out.grad.size(); ++i) {
      largest = std::max(largest, std::fabs(wanted.grad[i]));
      worst = std::max(worst, std::fabs(out.grad[i] - wanted.grad[i]));
    }
    check(static_cast<double>(worst) <= tolerance * static_cast<double>(largest) + 1e-300, "gradient of a row");
    check(std::fabs(out.grad_temperature - wanted.grad_temperature) <= tolerance * (1 + std::fabs(wanted.grad_temperature)) / temperature,
          "gradient of the temperature");
    for (int threads : {2, n > 250 ? 64 : 3}) {
      const auto one = run(p, grad_loss, threads), again = run(p, grad_loss, threads);
      check(same_bits(one.loss, again.loss) && same_bits(one.grad, again.grad) && one.grad_temperature == again.grad_temperature,
            "same bits on every run");
      for (std::size_t i = 0; i < out.loss.size(); ++i)
        check(std::fabs(static_cast<double>(out.loss[i] - one.loss[i])) <= tolerance, "loss of a row with more threads");
    }
  });
}

template <class T>
static void by_hand() {
  // Two images, antipodal views at temperature 0.01: the positive is at -100, the two negatives at 0.
  Problem<T> p{{1, 0, 0, 1, -1, 0, 0, -1}, {0, 1, 0, 1}, {0, 1, 0, 1}, 2, SameClass::exclude, 0.01};
  const std::vector<T> ones(4, 1);
  auto out = run(p, ones, 2);
  for (T loss : out.loss) check(std::fabs(loss - (100 + std::log(2.0))) < 1e-5, "antipodal positives at temperature 0.01");
  for (T g : out.grad) check(std::isfinite(g), "finite gradient");
  // One class: nothing is left but the positive.
  p.label = {5, 5, 5, 5};
  p.rows = {1, 2, 3, 4, -5, 6, 7, 8};
  out = run(p, ones, 2);
  for (T loss : out.loss) check(loss == 0, "one candidate: loss exactly 0");
  for (T g : out.grad) check(g == 0, "one candidate: gradient exactly 0");
  // Not a number goes through, wherever it stands.
  p.same_class = SameClass::ignore;
  p.rows[5] = static_cast<T>(NAN);
  out = run(p, ones, 1);
  for (T loss : out.loss) check(!std::isfinite(loss), "a NaN row reaches all that have it as a candidate");
  p.image = {0, 1, 2, 3};
  bool thrown = false;
  try {
    run(p, ones, 1);
  } catch (const std::invalid_argument&) {
    thrown = true;
  }
  check(thrown, "an image with one view is an error");
}

int main() {
  by_hand<float>();
  by_hand<double>();
  for (SameClass same_class : {SameClass::exclude, SameClass::attract, SameClass::ignore})
    for (bool part : {false, true}) {
      const std::int64_t shapes[][3] = {{2, 2, 1}, {3, 2, 5}, {24, 2, 7}, {40, 3, 33}, {131, 2, 64}, {190, 3, 129}};
      for (const auto& [images, views, d] : shapes) {
        against_truth<float>(images, views, d, same_class, 0.1, part);
        against_truth<double>(images, views, d, same_class, 0.1, part);
      }
      // Down to where the log-sums of most rows lie far below what one shift for all can hold.
      for (double temperature : {0.01, 0.004, 0.001}) {
        against_truth<float>(100, 2, 60, same_class, temperature, part);
        against_truth<double>(100, 2, 60, same_class, temperature, part);
      }
      against_truth<double>(100, 2, 60, same_class, 0.0001, part);
    }
  const std::vector<double> weights[] = {{0.4}, {0.0}, {0.7, 0.5}, {0.9, 0.6, 0.3, 0.0}, {1, 1, 1, 1}};
  for (const auto& levels : weights)
    for (double temperature : {0.1, 0.004}) {
      against_truth<float>(131, 2, 33, SameClass::exclude, temperature, levels.size() == 2, levels);
      against_truth<double>(131, 2, 33, SameClass::exclude, temperature, levels.size() == 3, levels);
    }
  // Several blocks per task, and tasks that begin within a group of blocks.
  against_truth<float>(1000, 2, 3, SameClass::exclude, 0.5, false);
  against_truth<float>(1000, 2, 3, SameClass::attract, 0.5, true);
  return finish();
}
