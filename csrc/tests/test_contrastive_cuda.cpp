// The CUDA kernels of the contrastive loss, on the host executor or a GPU, against the CPU kernel in float64 on the same rows.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "device.h"
#include "kernels/contrastive_cuda.h"
#include "threads.h"

using namespace clustercl;

static int failures = 0;

static void check(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

struct Problem {
  std::vector<double> rows;
  std::vector<std::int64_t> image, label;
  std::int64_t d;
  SameClass same_class = SameClass::exclude;
  double temperature = 0.1;
  bool normalize = true;
  std::int64_t first = 0, count = -1;
  std::vector<double> level_weight = {};  // with a part of label each, one after the other
  double loss_scale = 1;                  // of the gradient of the losses, as torch's GradScaler has it

  std::int64_t n() const { return static_cast<std::int64_t>(image.size()); }
  std::int64_t anchors() const { return count < 0 ? n() : count; }
};

struct Answer {
  std::vector<double> loss, lse, grad;
  double grad_temperature = 0;
};

// How rows of a precision come, and what its answers may be off by: of the losses absolutely (s goes up to 10), of the gradient
// relative to its length.
struct Kind {
  const char* name;
  CudaPrecision precision;
  int bytes;
  double loss_error, grad_error;
  CudaProducts products = CudaProducts::automatic;
};
static const Kind kKinds[] = {
    {"bf16", CudaPrecision::bf16, 2, 2e-5, 1e-2},            // products are exact in float32; weights and gradient have 8 digits
    {"half", CudaPrecision::half_as_tf32, 2, 2e-2, 3e-3},    // unit rows in 11 digits: s is off by 10 * 2^-11 at most
    {"tf32", CudaPrecision::tf32, 4, 2e-2, 3e-3},
    {"tf32x3", CudaPrecision::tf32x3, 4, 2e-5, 1e-5},        // float32: s is off by a few 10 * 2^-24
    {"float64", CudaPrecision::fma, 8, 1e-11, 1e-11},
#if !defined(CLUSTERCL_SIMT)
    // On other cards than 9.0, and for what wgmma is not used for, these repeat the first four.
    {"bf16 by wgmma", CudaPrecision::bf16, 2, 2e-5, 1e-2, CudaProducts::wgmma},
    {"half by wgmma", CudaPrecision::half_as_tf32, 2, 2e-2, 3e-3, CudaProducts::wgmma},
    {"tf32 by wgmma", CudaPrecision::tf32, 4, 2e-2, 3e-3, CudaProducts::wgmma},
    {"tf32x3 by wgmma", CudaPrecision::tf32x3, 4, 2e-5, 1e-5, CudaProducts::wgmma},
#endif
};

static std::uint16_t half_bits(double x) {  // to the nearest that float16 has, for numbers in its normal range or 0
  if (x == 0) return 0;
  int exponent;
  const double mantissa = std::frexp(std::fabs(x), &exponent);  // 1/2 .. 1
  const auto digits = static_cast<int>(std::lrint(mantissa * 2048));
  const int biased = exponent + 14;
  if (biased < 1) return 0;
  return static_cast<std::uint16_t>((x < 0 ? 0x8000 : 0) + (biased << 10) + (digits - 1024));
}
static double of_half(std::uint16_t bits) {
  const int biased = bits >> 10 & 31;
  const double x = biased == 0 ? std::ldexp(bits & 1023, -24) : std::ldexp(1024 + (bits & 1023), biased - 25);
  return bits & 0x8000 ? -x : x;
}

// Rounds the rows of `p` to what the kind can hold, and gives them as it wants them.
static std::vector<unsigned char> packed(Problem& p, const Kind& kind) {
  std::vector<unsigned char> out(p.rows.size() * kind.bytes);
  for (std::size_t k = 0; k < p.rows.size(); ++k) {
    const float single = static_cast<float>(p.rows[k]);
    unsigned char* to = out.data() + k * kind.bytes;
    std::uint32_t bits;
    std::memcpy(&bits, &single, 4);
    if (kind.precision == CudaPrecision::bf16) {
      const auto upper = static_cast<std::uint16_t>(bits >> 16);
      std::memcpy(to, &upper, 2);
      const std::uint32_t back = static_cast<std::uint32_t>(upper) << 16;
      float rounded;
      std::memcpy(&rounded, &back, 4);
      p.rows[k] = rounded;
    } else if (kind.precision == CudaPrecision::half_as_tf32) {
      const std::uint16_t half = half_bits(p.rows[k]);
      std::memcpy(to, &half, 2);
      p.rows[k] = of_half(half);
    } else if (kind.bytes == 4) {
      std::memcpy(to, &single, 4);
      p.rows[k] = single;
    } else {
      std::memcpy(to, &p.rows[k], 8);
    }
  }
  return out;
}

static Answer on_cpu(const Problem& p, const std::vector<double>& grad_loss) {
  const Contrastive<double> in{p.rows.data(), p.n(), p.d, p.d, 1, p.image.data(), p.label.data(), -1, p.same_class,
                               p.temperature, p.normalize, p.first, p.anchors(), static_cast<int>(p.level_weight.size()),
                               p.level_weight.data()};
  Answer out{std::vector<double>(p.anchors()), std::vector<double>(p.anchors()), std::vector<double>(p.rows.size()), 0};
  contrastive_forward(in, test::threads(2), out.loss.data(), out.lse.data());
  contrastive_backward(in, test::threads(2), out.lse.data(), grad_loss.data(), out.grad.data(), &out.grad_temperature);
  return out;
}

template <class Sum>
static Answer on_device(const Problem& p, const Kind& kind, const std::vector<unsigned char>& rows,
                          const std::vector<double>& grad_loss) {
  using Bytes = std::vector<unsigned char>;
  test::Device<unsigned char> device_rows(rows);
  test::Device<std::int64_t> image(p.image), label(p.label);
  test::Device<double> temperature({p.temperature}), grad_temperature({NAN});
  ContrastiveCuda in{kind.precision, device_rows.get(), p.n(), p.d, image.get(), label.get(), -1, p.same_class,
                           temperature.get(), p.normalize, p.first, p.anchors()};
  in.products = kind.products;
  in.levels = static_cast<int>(p.level_weight.size());
  std::copy(p.level_weight.begin(), p.level_weight.end(), in.level_weight);
  // Arrays of exactly the promised size, with garbage in them.
  const std::vector<Sum> nothing(p.anchors(), Sum(NAN));
  test::Device<Sum> loss(nothing), lse(nothing), grad_of_loss({grad_loss.begin(), grad_loss.end()});
  test::Device<std::int32_t> order(std::vector<std::int32_t>(kOrderRows * p.n(), -7));
  test::Device<unsigned char> forward(Bytes(contrastive_forward_workspace(in), 0xa5));
  test::Device<unsigned char> backward(Bytes(contrastive_backward_workspace(in), 0xa5));
  check(contrastive_forward_cuda(in, forward.get(), loss.get(), lse.get(), order.get(), nullptr) == cudaSuccess, "forward launches");
  const int grad_bytes = kind.precision == CudaPrecision::half_as_tf32 ? 4 : kind.bytes;
  test::Device<unsigned char> device_grad(Bytes(p.rows.size() * grad_bytes, 0xff));
  check(contrastive_backward_cuda(in, backward.get(), lse.get(), order.get(), grad_of_loss.get(), device_grad.get(),
                                  grad_temperature.get(), nullptr) == cudaSuccess, "backward launches");
  const auto losses = loss.back(), lses = lse.back();
  const Bytes grad = device_grad.back();
  Answer out{{losses.begin(), losses.end()}, {lses.begin(), lses.end()}, std::vector<double>(p.rows.size()),
             grad_temperature.back()[0]};
  for (std::size_t k = 0; k < p.rows.size(); ++k) {
    if (grad_bytes == 8) {
      std::memcpy(&out.grad[k], grad.data() + 8 * k, 8);
      continue;
    }
    std::uint32_t bits = 0;
    std::memcpy(grad_bytes == 2 ? reinterpret_cast<unsigned char*>(&bits) + 2 : reinterpret_cast<unsigned char*>(&bits),
                grad.data() + grad_bytes * k, grad_bytes);
    float single;
    std::memcpy(&single, &bits, 4);
    out.grad[k] = single;
  }
  return out;
}

static double distance(const std::vector<double>& x, const std::vector<double>& y) {
  double square = 0;
  for (std::size_t k = 0; k < x.size(); ++k) square += (x[k] - y[k]) * (x[k] - y[k]);
  return std::sqrt(square);
}

static void compare(const std::string& name, Problem p, const Kind& kind) {
  const std::string what = name + ", " + kind.name + ", n " + std::to_string(p.n()) + ", d " + std::to_string(p.d);
  const auto rows = packed(p, kind);
  std::mt19937_64 random(9);
  std::normal_distribution<double> normal;
  std::vector<double> grad_loss(p.anchors());
  for (double& g : grad_loss) g = p.loss_scale * static_cast<float>(normal(random));
  const Answer wanted = on_cpu(p, grad_loss);
  const auto run = [&] {
    return kind.bytes == 8 ? on_device<double>(p, kind, rows, grad_loss) : on_device<float>(p, kind, rows, grad_loss);
  };
  const Answer found = run();
  const double scale = 0.1 / p.temperature;  // of s, and so of what rounding moves
  for (std::int64_t i = 0; i < p.anchors(); ++i) {
    const bool loss = std::fabs(found.loss[i] - wanted.loss[i]) <= kind.loss_error * std::max(1.0, scale);
    const bool lse = std::fabs(found.lse[i] - wanted.lse[i]) <= kind.loss_error * std::max(1.0, scale);
    if (!loss || !lse) std::printf("%s: row %ld %.9g, wanted %.9g\n", what.c_str(), static_cast<long>(i), found.loss[i], wanted.loss[i]);
    check(loss && lse, what + ": loss");
    if (failures > 20) return;
  }
  // Terms of the size of grad_loss / temperature over the length of the rows (about 3) meet in it, and may cancel to nothing.
  const std::vector<double> none(wanted.grad.size()), no_loss(grad_loss.size());
  const double off = distance(found.grad, wanted.grad), terms = 0.1 * distance(grad_loss, no_loss) / p.temperature / 3;
  const double length = distance(wanted.grad, none) + (p.normalize ? terms : 0);
  if (!(off <= kind.grad_error * std::max(1.0, scale) * length)) std::printf("%s: gradient off by %.3g of its length\n", what.c_str(), off / length);
  check(off <= kind.grad_error * std::max(1.0, scale) * length, what + ": gradient");
  // A sum over rows in which terms of either sign meet.
  const double off_temperature = std::fabs(found.grad_temperature - wanted.grad_temperature);
  check(off_temperature <= 10 * kind.grad_error * std::max(1.0, scale) * (std::fabs(wanted.grad_temperature) + length / p.temperature),
        what + ": gradient by the temperature");
  // Where every row keeps one candidate, its positive, nothing is left of loss and gradient.
  const auto nothing = [](const std::vector<double>& x) { return std::all_of(x.begin(), x.end(), [](double v) { return v == 0; }); };
  if (nothing(wanted.loss))
    check(nothing(found.loss) && nothing(found.grad) && found.grad_temperature == 0, what + ": exactly 0");
  test::other_order(true);
  const Answer again = run();
  test::other_order(false);
  check(again.loss == found.loss && again.grad == found.grad && again.grad_temperature == found.grad_temperature,
        what + ": same bits when threads run in another order");
}

static Problem problem(std::int64_t images, std::int64_t views, std::int64_t d, std::int64_t classes, std::uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  Problem p;
  p.d = d;
  std::vector<std::int64_t> of_image(images);
  for (auto& label : of_image) label = static_cast<std::int64_t>(random() % (classes + 1)) - 1;  // -1: unknown
  for (std::int64_t v = 0; v < views; ++v)
    for (std::int64_t i = 0; i < images; ++i) {
      p.image.push_back(1000000007 * i - 5);
      p.label.push_back(of_image[i]);
      for (std::int64_t f = 0; f < d; ++f) p.rows.push_back(0.3 * static_cast<double>((i * 7 + f) % 5) + normal(random));
    }
  return p;
}

// Four times the rows want four times the memory, not sixteen: nothing of size n^2.
static void compare_memory(const Kind& kind) {
  const auto bytes = [&](std::int64_t n, std::int64_t (*workspace)(const ContrastiveCuda&)) {
    ContrastiveCuda in{kind.precision, nullptr, n, 128, nullptr, nullptr, -1, SameClass::exclude, nullptr, true, 0, n};
    in.products = kind.products;
    return workspace(in);
  };
  for (const auto workspace : {contrastive_forward_workspace, contrastive_backward_workspace})
    check(bytes(262'144, workspace) <= 4 * bytes(65'536, workspace), std::string(kind.name) + ": memory grows faster than the rows");
}

// A word keeps the checks to the kinds of one sort of products, mma or wgmma, and to a few tiles: for compute-sanitizer, under
// which they take a hundred times as long.
int main(int count, char** words) {
  const std::string only = count > 1 ? words[1] : "";
  for (const Kind& kind : kKinds) {
    if (!only.empty() && (kind.products == CudaProducts::wgmma) != (only == "wgmma")) continue;
    compare_memory(kind);
    for (const SameClass mode : {SameClass::exclude, SameClass::attract, SameClass::ignore}) {
      Problem p = problem(35, 2, 40, 4);  // two tiles, the second with 6 rows
      p.same_class = mode;
      compare("mode " + std::to_string(static_cast<int>(mode)), p, kind);
    }
    compare("one feature", problem(3, 2, 1, 2), kind);
    compare("two tiles of features", problem(20, 3, 150, 3), kind);
    compare("whole tiles", problem(32, 2, 64, 1), kind);
    Problem anchors = problem(45, 2, 17, 3);
    anchors.first = 13;
    anchors.count = 70;
    compare("some anchors", anchors, kind);
    anchors.first = 65;
    anchors.count = 5;
    compare("few anchors", anchors, kind);
    Problem plain = problem(20, 2, 9, 3);
    plain.normalize = false;
    for (double& x : plain.rows) x *= 0.3;
    compare("rows as they are", plain, kind);
    Problem zero = problem(20, 2, 12, 3);
    for (int f = 0; f < 12; ++f) zero.rows[7 * 12 + f] = 0;
    compare("a row of norm 0", zero, kind);
#if !defined(CLUSTERCL_SIMT)
    // Many tiles, rings that come round, every number of parts of the features, blocks without anchors.
    for (const std::int64_t d : {128, 129, 300, 512, 513})
      if (only.empty() || kind.precision == CudaPrecision::bf16)
        compare("many tiles", problem(only.empty() ? 700 : 150, 2, d, 7), kind);
    if (only.empty()) {
      Problem gathered = problem(900, 2, 96, 5);
      gathered.first = 1100;
      gathered.count = 450;
      compare("some of many anchors", gathered, kind);
      Problem ignored = problem(1000, 3, 64, 5);
      ignored.same_class = SameClass::ignore;
      compare("many tiles, all classes", ignored, kind);
    }
#endif
    Problem levels = problem(35, 2, 40, 2);
    levels.level_weight = {0.6, 0.3, 0.0};
    for (std::int64_t l = 1; l < 3; ++l)
      for (std::int64_t i = 0; i < levels.n(); ++i) levels.label.push_back(i % 35 % (3 << l) - 1);
    compare("three levels", levels, kind);
    Problem alone = problem(33, 2, 8, 1);
    for (auto& label : alone.label) label = 3;  // every negative excluded: one candidate, the other view
    compare("no negatives", alone, kind);
    for (std::size_t k = 0; k < alone.rows.size() / 2; ++k) alone.rows[k + alone.rows.size() / 2] = -alone.rows[k];
    alone.temperature = 0.01;  // log-sums of -100, and columns of the last tile that are not there
    compare("no negatives, opposite positives", alone, kind);
    alone.loss_scale = std::ldexp(1.0, 40);
    compare("no negatives, opposite positives, a loss scale", alone, kind);
    if (kind.precision != CudaPrecision::half_as_tf32) {
      Problem huge = problem(10, 2, 6, 2);
      for (std::size_t k = 0; k < huge.rows.size(); ++k) huge.rows[k] *= k / 6 % 2 ? 1e30 : 1e-30;
      compare("huge and tiny rows", huge, kind);
    }
    if (kind.loss_error < 1e-3) {
      Problem cold = problem(10, 2, 6, 2);
      cold.temperature = 0.01;
      for (int f = 0; f < 6; ++f) cold.rows[10 * 6 + f] = -cold.rows[f];  // the positive of row 0 is opposite to it
      compare("temperature 0.01", cold, kind);
    }
  }
  std::printf(failures ? "%d failures\n" : "ok\n", failures);
  return failures != 0;
}
