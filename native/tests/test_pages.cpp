// Pages on every path against the portable one, bit for bit, whatever the threads and whatever other rows there are, and
// the portable one against what it gave on other processors.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "laws.hpp"
#include "pool.hpp"

namespace {

using laws::Draw;

// Pages of two streams of 210 positions, and rows that see some of them.
struct Scene {
  std::vector<uint8_t> keys, values;
  std::vector<float> key_scales, value_scales, signs, q, sinks;
  std::vector<int32_t> tables{5, 0, 7, 2, 1, 6, 3, 4}, streams, seen;
  float one = 1.0f;
  h2q::PagedView view{};

  Scene(h2q::PageKind kind, int heads, int kv_heads, int key_dim, int value_dim, int rows, int window) {
    Draw draw(static_cast<uint32_t>(key_dim + value_dim + rows));
    signs.resize(static_cast<size_t>(std::max(key_dim, value_dim)));
    for (float& sign : signs) sign = draw.below(2) ? 1.0f : -1.0f;
    const auto turn = [&](int width) { return h2q::RotationView{signs.data(), &one, width, width & -width, 1}; };
    h2q::PagesView& p = view.pages;
    p = {kind, 8, kv_heads, key_dim, value_dim, nullptr, nullptr, nullptr, nullptr, turn(key_dim), turn(value_dim)};
    keys.resize(static_cast<size_t>(p.block(8, 0) * p.key_bytes()));
    values.resize(static_cast<size_t>(p.block(8, 0) * p.value_bytes()));
    key_scales.resize(static_cast<size_t>(p.block(8, 0) * h2q::kPage));
    value_scales.resize(key_scales.size());
    p.keys = keys.data(), p.values = values.data();
    if (p.rounded()) p.key_scales = key_scales.data(), p.value_scales = value_scales.data();
    const int positions = 210;
    std::vector<int64_t> slots;
    for (int stream = 0; stream < 2; ++stream)
      for (int i = 0; i < positions; ++i)
        slots.push_back(int64_t{tables[static_cast<size_t>(4 * stream + i / h2q::kPage)]} * h2q::kPage + i % h2q::kPage);
    const auto k = draw.normal(slots.size() * static_cast<size_t>(kv_heads * key_dim));
    const auto v = draw.normal(slots.size() * static_cast<size_t>(kv_heads * value_dim));
    if (!h2q::store_rows(p, k.data(), v.data(), slots.data(), static_cast<int>(slots.size()))) ++laws::failures;
    q = draw.normal(static_cast<size_t>(rows * heads * key_dim), 2.0f);
    sinks = draw.normal(static_cast<size_t>(heads));
    for (int row = 0; row < rows; ++row) streams.push_back(draw.below(2)), seen.push_back(1 + draw.below(positions));
    view.q = q.data(), view.tables = tables.data(), view.streams = streams.data(), view.seen = seen.data();
    view.sinks = window ? sinks.data() : nullptr;
    view.rows = rows, view.heads = heads, view.most_pages = 4, view.window = window;
    view.scale = 0.25f, view.softcap = window ? 6.0f : 0.0f;
  }

  std::vector<float> attend() {
    std::vector<float> out(static_cast<size_t>(view.rows * view.heads * view.pages.value_dim));
    view.out = out.data();
    if (!h2q::attend_rows(view)) ++laws::failures;
    return out;
  }
  // Each row by itself.
  std::vector<float> alone() {
    const h2q::PagedView all = view;
    std::vector<float> out;
    for (int row = 0; row < all.rows; ++row) {
      view.q = all.q + int64_t{row} * all.heads * all.pages.key_dim;
      view.streams = all.streams + row, view.seen = all.seen + row, view.rows = 1;
      const auto one_row = attend();
      out.insert(out.end(), one_row.begin(), one_row.end());
    }
    view = all;
    return out;
  }
};

struct Shape {
  int heads, kv_heads, key_dim, value_dim, rows, window;
};
constexpr Shape kShapes[] = {{4, 2, 64, 64, 1, 0}, {8, 2, 64, 64, 40, 0}, {6, 3, 10, 6, 9, 70}, {5, 1, 7, 40, 3, 33},
                             {96, 1, 48, 80, 2, 0}, {4, 4, 128, 128, 5, 100}};

template <typename T>
uint64_t digest(uint64_t so_far, const std::vector<T>& values) {  // FNV-1a
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  for (size_t i = 0; i < values.size() * sizeof(T); ++i) so_far = (so_far ^ bytes[i]) * 0x100000001b3u;
  return so_far;
}

constexpr uint64_t kGolden = 0xfb95c7cbc514f201;

uint64_t run(bool alone) {
  uint64_t found = 0xcbf29ce484222325u;
  for (const Shape& s : kShapes)
    for (auto kind : {h2q::PageKind::k8v8, h2q::PageKind::k8v4, h2q::PageKind::f16}) {
      Scene scene(kind, s.heads, s.kv_heads, s.key_dim, s.value_dim, s.rows, s.window);
      found = digest(digest(digest(found, scene.keys), scene.values), scene.key_scales);
      found = digest(digest(found, scene.value_scales), alone ? scene.alone() : scene.attend());
    }
  return found;
}

void check_refusals(const char* path) {
  for (auto kind : {h2q::PageKind::k8v8, h2q::PageKind::k8v4, h2q::PageKind::f16}) {
    Scene scene(kind, 2, 1, 24, 24, 2, 0);
    scene.q[30] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> out(2 * 2 * 24), bad(24, 1.0f);
    scene.view.out = out.data();
    laws::expect(!h2q::attend_rows(scene.view), path, "took a query that is not finite");
    bad[23] = std::numeric_limits<float>::infinity();
    const std::vector<float> good(24, 1.0f);
    const int64_t slot = 3;
    laws::expect(!h2q::store_rows(scene.view.pages, bad.data(), good.data(), &slot, 1), path, "took a key that is not finite");
    laws::expect(!h2q::store_rows(scene.view.pages, good.data(), bad.data(), &slot, 1), path, "took a value that is not finite");
  }
}

}  // namespace

int main() {
  h2q::set_pool_threads(1);
  h2q::use(h2q::ops_portable());
  const uint64_t expected = run(false);
  if (expected != kGolden) std::printf("0x%016llx\n", static_cast<unsigned long long>(expected));
  laws::expect(expected == kGolden, "portable", "not the bits of other processors");
  for (int threads : {1, 3, 10}) {
    h2q::set_pool_threads(threads);
    for (const h2q::Ops* path : laws::paths()) {
      std::printf("path %s, %d threads\n", path->name, threads);
      h2q::use(*path);
      laws::expect(run(false) == expected, path->name, "differs from portable");
      laws::expect(run(true) == expected, path->name, "a row differs from itself alone");
      check_refusals(path->name);
    }
  }
  return laws::verdict();
}
