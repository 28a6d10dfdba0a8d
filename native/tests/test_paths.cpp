// Every path against the portable one, bit for bit, without Python.
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "dispatch.hpp"

namespace {

int failures = 0;
std::mt19937 draw(1);

template <typename T>
void expect_same(const char* path, const char* what, const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0) return;
  std::printf("%s: %s differs from portable\n", path, what);
  ++failures;
}

std::vector<float> normal(size_t count) {
  std::normal_distribution<float> gauss;
  std::vector<float> out(count);
  for (float& v : out) v = gauss(draw);
  return out;
}

struct Plane {
  h2q::PlaneView view;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;
  Plane(int bits, int rows, int cols) : view(h2q::plane_layout(bits, rows, cols)) {
    codes.resize(static_cast<size_t>(view.panels) * view.lines * h2q::kLineLanes);
    for (auto& c : codes) c = static_cast<uint8_t>(draw());
    scales.resize(static_cast<size_t>(rows));
    for (auto& s : scales) s = static_cast<uint16_t>(0x3c00 + draw() % 512);
    view.codes = codes.data();
    view.scales = scales.data();
  }
};

std::vector<float> product(const Plane& plane, const std::vector<float>& x, int tokens) {
  const int cols = plane.view.cols, stride = (cols + 31) / 32 * 32;
  std::vector<int8_t> codes(static_cast<size_t>(tokens) * stride);
  std::vector<float> scale(static_cast<size_t>(tokens)), out(static_cast<size_t>(tokens) * plane.view.rows);
  std::vector<int32_t> sums(static_cast<size_t>(tokens));
  h2q::quantize_tokens(x.data(), tokens, cols, stride, codes.data(), scale.data(), sums.data());
  h2q::matmul(&plane.view, 1, {codes.data(), scale.data(), sums.data(), tokens, stride}, out.data());
  return out;
}

std::vector<uint8_t> encoded(int bits, int rows, int cols, const std::vector<float>& target, const float* feedback) {
  const auto view = h2q::plane_layout(bits, rows, cols);
  std::vector<uint8_t> codes(static_cast<size_t>(view.panels) * view.lines * h2q::kLineLanes);
  h2q::encode_plane(bits, rows, cols, target.data(), feedback, 16, 16, codes.data(), {});
  return codes;
}

void check(const char* path) {
  const int shapes[][2] = {{1, 1}, {16, 4}, {31, 37}, {128, 256}, {256, 64}, {263, 101}, {300, 260}};
  for (const auto& [rows, cols] : shapes)
    for (int bits : {1, 2})
      for (int tokens : {1, 3, 17, 70}) {
        const Plane plane(bits, rows, cols);
        const auto x = normal(static_cast<size_t>(tokens) * cols);
        h2q::use("portable");
        const auto expected = product(plane, x, tokens);
        h2q::use(path);
        expect_same(path, "matmul", product(plane, x, tokens), expected);
      }
  for (int bits : {1, 2}) {
    auto target = normal(48 * 40);
    for (float& v : target) v *= 27.0f;
    std::vector<float> feedback(40 * 40);
    for (int i = 0; i < 40; ++i)
      for (int j = i + 1; j < 40; ++j) feedback[static_cast<size_t>(i * 40 + j)] = normal(1)[0] / 8;
    h2q::use("portable");
    const auto expected = encoded(bits, 48, 40, target, feedback.data());
    h2q::use(path);
    expect_same(path, "encode", encoded(bits, 48, 40, target, feedback.data()), expected);
  }
  const auto x = normal(3 * 77), weight = normal(77);
  std::vector<float> expected(x.size()), found(x.size());
  h2q::use("portable");
  h2q::normalise(x.data(), weight.data(), 1e-5f, 3, 77, expected.data());
  h2q::use(path);
  h2q::normalise(x.data(), weight.data(), 1e-5f, 3, 77, found.data());
  expect_same(path, "norm", found, expected);
}

}  // namespace

int main() {
  const uint8_t columns[2][12] = {{17, 24, 4, 1, 4, 0, 14, 24, 6, 8, 28, 19}, {10, 27, 7, 1, 18, 8, 4, 20, 12, 18, 11, 18}};
  int8_t levels[32];
  for (int i = 0; i < 32; ++i) levels[i] = static_cast<int8_t>(-62 + 4 * i);
  for (int bits : {1, 2}) h2q::set_code_tables(bits, columns[bits - 1], levels);
  for (const h2q::Ops* path : h2q::usable_paths()) {
    std::printf("path %s\n", path->name);
    check(path->name);
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
