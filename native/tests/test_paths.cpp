// Every operation on every path against the portable one, bit for bit, and the portable one against what it gave on
// other processors.
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "laws.hpp"
#include "pool.hpp"

namespace {

using laws::Activations;
using laws::Bytes;
using laws::Draw;
using laws::put;
using Planes = std::vector<std::unique_ptr<laws::RandomPlane>>;

struct Case {
  const char* operation;
  std::string shape;
  std::function<void(Draw&, Bytes&)> run;
};

std::string shape_of(std::initializer_list<int> sizes) {
  std::string out;
  for (int size : sizes) out += (out.empty() ? "" : " x ") + std::to_string(size);
  return out;
}

Planes stack_of(Draw& draw, const std::vector<int>& bits, int rows, int cols, size_t offset = 0) {
  Planes out;
  for (int b : bits) out.push_back(std::make_unique<laws::RandomPlane>(draw, b, rows, cols, offset));
  return out;
}

std::vector<h2q::PlaneView> views_of(const Planes& planes) {
  std::vector<h2q::PlaneView> out;
  for (const auto& plane : planes) out.push_back(plane->view);
  return out;
}

std::vector<float> product(const Planes& planes, const h2q::ActivationView& x) {
  const auto views = views_of(planes);
  std::vector<float> out(static_cast<size_t>(x.tokens) * views[0].rows);
  h2q::matmul(views.data(), static_cast<int>(views.size()), x, out.data());
  return out;
}

// Also: a token of a batch gives the bits it gives alone.
void matmul(Draw& draw, Bytes& out, const std::vector<int>& bits, int rows, int cols, int tokens, size_t offset) {
  const auto planes = stack_of(draw, bits, rows, cols, offset);
  const auto x = Activations::of(draw.normal(static_cast<size_t>(tokens) * cols), tokens, cols, offset);
  const auto all = product(planes, x.view());
  for (int t : {0, tokens / 2, tokens - 1}) {
    auto one = x.view();
    one.codes += static_cast<int64_t>(t) * one.stride, one.scale += t, one.sums += t, one.tokens = 1;
    const auto alone = product(planes, one);
    const bool same = std::memcmp(alone.data(), &all[static_cast<size_t>(t) * rows], alone.size() * sizeof(float)) == 0;
    laws::expect(same, h2q::active().name, ("a token alone differs, " + shape_of({rows, cols, tokens})).c_str());
  }
  put(out, all);
}

void rotate(Draw& draw, Bytes& out, int tokens, int width) {
  const int block = width & -width, odd = width / block, mixed = odd > 1 && odd <= 64 ? odd : 1;
  std::vector<float> signs(static_cast<size_t>(width)), turned(static_cast<size_t>(tokens) * width), back(turned);
  for (float& s : signs) s = draw.below(2) ? 1.0f : -1.0f;
  const auto mix = draw.normal(static_cast<size_t>(mixed) * mixed), x = draw.normal(turned.size());
  const h2q::RotationView r{signs.data(), mix.data(), width, block, mixed};
  h2q::rotate_tokens(r, x.data(), turned.data(), tokens, false);
  h2q::rotate_tokens(r, x.data(), back.data(), tokens, true);
  put(out, turned), put(out, back);
  Activations a(tokens, width, 0);
  a.finite = h2q::rotate_quantize_tokens(r, x.data(), tokens, a.stride, a.codes.data(), a.scale.data(), a.sums.data());
  a.give(out);
}

void dense(Draw& draw, Bytes& out, int tokens, int rows, int width) {
  const auto x = draw.normal(static_cast<size_t>(tokens) * width);
  const auto weights = draw.normal(static_cast<size_t>(rows) * width);
  std::vector<uint16_t> narrow(weights.size());
  for (auto& w : narrow) w = static_cast<uint16_t>(0x3c00 + (draw.word() & 0x81ff));
  std::vector<float> result(static_cast<size_t>(tokens) * rows);
  h2q::DenseView view{x.data(), weights.data(), nullptr, result.data(), tokens, rows, width};
  h2q::dense(view);
  put(out, result);
  view.wide = nullptr, view.narrow = narrow.data();
  h2q::dense(view);
  put(out, result);
}

void rounded(Draw& draw, Bytes& out, int tokens, int rows, int cols) {
  const int groups = (cols + 3) / 4;
  const auto x = Activations::of(draw.normal(static_cast<size_t>(tokens) * cols), tokens, cols, 0);
  std::vector<uint8_t> levels(static_cast<size_t>((rows + 15) / 16) * groups * 64);
  for (auto& level : levels) level = static_cast<uint8_t>(1 + draw.below(127));
  const auto scales = draw.normal(static_cast<size_t>(rows));
  std::vector<float> result(static_cast<size_t>(tokens) * rows);
  const auto in = x.view();
  h2q::matmul_rounded({levels.data(), scales.data(), nullptr, in.scale, in.sums, result.data(), tokens, rows, groups},
                      in.codes, in.stride);
  put(out, result);
}

void read_rows(Draw& draw, Bytes& out, const std::vector<int>& bits, int rows, int cols) {
  const auto planes = stack_of(draw, bits, rows, cols, 1);
  const auto views = views_of(planes);
  std::vector<int64_t> ids(9);
  for (auto& id : ids) id = draw.below(rows);
  ids[3] = ids[0] = rows - 1;
  std::vector<float> found(ids.size() * static_cast<size_t>(cols));
  h2q::gather(views.data(), static_cast<int>(views.size()), ids.data(), static_cast<int>(ids.size()), found.data());
  put(out, found);
  std::vector<int8_t> levels(static_cast<size_t>(rows) * cols);
  for (const auto& view : views) h2q::decode(view, levels.data()), put(out, levels);
}

void attend(Draw& draw, Bytes& out, int batch, int tokens, int heads, int shared, int width, int start) {
  const int capacity = start + tokens + 3;
  const auto q = draw.normal(static_cast<size_t>(batch) * tokens * heads * width, 3.0f);
  const auto k = draw.normal(static_cast<size_t>(batch) * shared * capacity * width), v = draw.normal(k.size());
  std::vector<float> mixed(q.size());
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
  h2q::attention({q.data(), k.data(), v.data(), nullptr, mixed.data(), batch, tokens, heads, shared, capacity, width,
                  width, start, 0, scale, 0.0f});
  put(out, mixed);
}

void elementwise(Draw& draw, Bytes& out, int tokens, int heads, int width) {
  const int all = heads * width;
  const auto x = draw.normal(static_cast<size_t>(tokens) * all), up = draw.normal(x.size());
  const auto weight = draw.normal(static_cast<size_t>(all));
  const auto cos = draw.normal(static_cast<size_t>(tokens) * (width / 2)), sin = draw.normal(cos.size());
  std::vector<float> result(x.size());
  h2q::normalise(x.data(), weight.data(), 1e-5f, tokens, all, result.data());
  put(out, result);
  auto loud = x;
  for (float& v : loud) v *= 40.0f;
  h2q::gate(loud.data(), up.data(), static_cast<int64_t>(loud.size()), result.data());
  put(out, result);
  h2q::gate_gaussian(loud.data(), up.data(), static_cast<int64_t>(loud.size()), result.data());
  put(out, result);
  std::vector<float> total(x.size());
  h2q::add_and_normalise(x.data(), up.data(), weight.data(), 1e-5f, tokens, all, total.data(), result.data());
  put(out, total), put(out, result);
  h2q::gate_clamped(loud.data(), up.data(), static_cast<int64_t>(loud.size()), result.data());
  put(out, result);
  for (int k : {1, 2}) {
    std::vector<float> best(static_cast<size_t>(tokens));
    std::vector<double> norm(best.size()), products(best.size());
    std::vector<int64_t> ids(best.size() * static_cast<size_t>(k));
    h2q::softmax_top(loud.data(), tokens, all, k, best.data(), norm.data(), products.data(), ids.data());
    put(out, best), put(out, norm), put(out, products), put(out, ids);
  }
  h2q::positions(x.data(), cos.data(), sin.data(), tokens, heads, width, result.data());
  put(out, result);
}

void encode(Draw& draw, Bytes& out, int bits, int rows, int cols) {
  const auto target = draw.normal(static_cast<size_t>(rows) * cols, 27.0f);
  auto feedback = draw.normal(static_cast<size_t>(cols) * cols, 0.125f);
  for (int i = 0; i < cols; ++i)
    for (int j = 0; j <= i; ++j) feedback[static_cast<size_t>(i) * cols + j] = 0.0f;
  Bytes codes(laws::code_bytes(h2q::plane_layout(bits, rows, cols)));
  h2q::encode_plane(bits, rows, cols, target.data(), feedback.data(), 16, 16, codes.data(), {});
  put(out, codes);
}

std::vector<Case> cases() {
  std::vector<Case> out;
  const std::vector<std::vector<int>> stacks{{2}, {1}, {2, 1}, {2, 2}, {2, 1, 1}, {1, 1, 1}};
  size_t turn = 0;
  for (auto [rows, cols] : {std::pair{1, 1}, {16, 4}, {31, 37}, {48, 100}, {64, 36}, {128, 256}, {263, 101}, {300, 260}})
    for (int tokens : {1, 2, 3, 5, 8, 17, 70})
      for (int more = 0; more < 2; ++more) {
        const auto bits = stacks[turn++ % stacks.size()];
        out.push_back({"matmul", shape_of({rows, cols, tokens}), [=, r = rows, c = cols](Draw& d, Bytes& b) {
                         matmul(d, b, bits, r, c, tokens, static_cast<size_t>(more));
                       }});
      }
  for (auto [rows, cols] : {std::pair{16, 8192}, {256, 2048}})  // few rows: ranges of columns are shared out
    for (int tokens : {1, 4})
      out.push_back({"matmul", shape_of({rows, cols, tokens}),
                     [=, r = rows, c = cols](Draw& d, Bytes& b) { matmul(d, b, {2, 1}, r, c, tokens, 0); }});
  for (int width : {1, 2, 6, 7, 16, 24, 45, 64, 100, 268, 768, 1024})
    out.push_back({"rotate, quantize", shape_of({3, width}), [=](Draw& d, Bytes& b) { rotate(d, b, 3, width); }});
  for (auto [tokens, width] : {std::pair{1, 1}, {2, 31}, {3, 257}})
    out.push_back({"quantize", shape_of({tokens, width}), [=, t = tokens, w = width](Draw& d, Bytes& b) {
                     Activations::of(d.normal(static_cast<size_t>(t) * w, 1e6f), t, w, 1).give(b);
                     Activations::of(std::vector<float>(static_cast<size_t>(t) * w), t, w).give(b);
                   }});
  for (auto [tokens, rows, width] : {std::tuple{1, 1, 1}, {3, 5, 17}, {4, 33, 64}, {9, 7, 131}})
    out.push_back({"dense", shape_of({tokens, rows, width}),
                   [=, t = tokens, r = rows, w = width](Draw& d, Bytes& b) { dense(d, b, t, r, w); }});
  for (auto [rows, cols] : {std::pair{1, 1}, {31, 37}, {48, 20}, {300, 65}})
    for (const auto& bits : stacks)
      out.push_back({"gather, decode", shape_of({rows, cols}),
                     [=, r = rows, c = cols](Draw& d, Bytes& b) { read_rows(d, b, bits, r, c); }});
  for (auto [batch, tokens, heads, shared, width, start] :
       {std::tuple{1, 1, 4, 2, 64, 70}, {2, 19, 4, 2, 32, 0}, {1, 5, 3, 1, 10, 4}, {3, 2, 8, 4, 8, 18}, {1, 1, 1, 1, 2, 0}})
    out.push_back({"attention", shape_of({batch, tokens, heads, width}),
                   [=, n = batch, t = tokens, h = heads, s = shared, w = width, from = start](Draw& d, Bytes& b) {
                     attend(d, b, n, t, h, s, w, from);
                   }});
  for (auto [tokens, heads, width] : {std::tuple{1, 1, 2}, {3, 7, 22}, {5, 4, 64}, {40, 8, 64}})
    out.push_back({"norm, swiglu, rope", shape_of({tokens, heads, width}),
                   [=, t = tokens, h = heads, w = width](Draw& d, Bytes& b) { elementwise(d, b, t, h, w); }});
  for (int bits : {1, 2})
    for (auto [rows, cols] : {std::pair{1, 1}, {48, 40}})
      out.push_back({"encode", shape_of({bits, rows, cols}),
                     [=, r = rows, c = cols](Draw& d, Bytes& b) { encode(d, b, bits, r, c); }});
  for (auto [tokens, rows, cols] : {std::tuple{1, 1, 1}, {8, 40, 64}, {19, 100, 37}})
    out.push_back({"rounded", shape_of({tokens, rows, cols}),
                   [=, t = tokens, r = rows, c = cols](Draw& d, Bytes& b) { rounded(d, b, t, r, c); }});
  return out;
}

// Every place a bad number can be in, whole vectors and tails.
void check_refusals(const char* path) {
  for (int width : {1, 15, 16, 37, 64, 131})
    for (int at = 0; at < width; ++at)
      for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity()}) {
        std::vector<float> x(static_cast<size_t>(width), 1.0f);
        x[static_cast<size_t>(at)] = bad;
        laws::expect(!Activations::of(x, 1, width).finite, path, "took a value that is not finite");
      }
}

uint64_t digest(uint64_t so_far, const Bytes& bytes) {  // FNV-1a
  for (uint8_t byte : bytes) so_far = (so_far ^ byte) * 0x100000001b3u;
  return so_far;
}

// What the portable path gave on x86-64, by operation: the bits are the same everywhere. (Those of the encoder:
// tests/test_codec_laws.py.)
struct Golden {
  const char* operation;
  uint64_t digest;
};
constexpr Golden kGolden[] = {
    {"matmul", 0xa5e4978fddf27458},
    {"rotate, quantize", 0x87e87ccf2c136df6},
    {"quantize", 0x92bcfbb52280d150},
    {"dense", 0x579ff45560cab9e2},
    {"gather, decode", 0x7038e7274977c789},
    {"attention", 0xb024b2fba122168c},
    {"norm, swiglu, rope", 0xf054d2f4edbcd16d},
    {"rounded", 0x79d67c3dbb63f782},
};

}  // namespace

int main() {
  laws::set_codes();
  const auto all = cases();
  const auto run = [&](const Case& c, const h2q::Ops& path) {
    h2q::use(path);
    Draw draw(static_cast<uint32_t>(&c - all.data()) + 1);
    Bytes out;
    c.run(draw, out);
    return out;
  };
  std::vector<Bytes> expected;
  h2q::set_pool_threads(1);
  for (const Case& c : all) expected.push_back(run(c, h2q::ops_portable()));
  for (const Golden& golden : kGolden) {
    uint64_t found = 0xcbf29ce484222325u;
    for (size_t i = 0; i < all.size(); ++i)
      if (std::strcmp(all[i].operation, golden.operation) == 0) found = digest(found, expected[i]);
    if (found != golden.digest) std::printf("%s: 0x%016llx\n", golden.operation, static_cast<unsigned long long>(found));
    laws::expect(found == golden.digest, "portable", "not the bits of other processors");
  }
  for (int threads : {3, 10}) {
    h2q::set_pool_threads(threads);
    for (const h2q::Ops* path : laws::paths()) {
      std::printf("path %s, %d threads\n", path->name, threads);
      for (size_t i = 0; i < all.size(); ++i)
        laws::expect(run(all[i], *path) == expected[i], path->name,
                     (std::string(all[i].operation) + " differs from portable, " + all[i].shape).c_str());
      check_refusals(path->name);
    }
  }
  return laws::verdict();
}
