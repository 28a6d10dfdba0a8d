// What the tests share: the codes, every path of this machine, and inputs that are the same on every machine.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "dispatch.hpp"

namespace h2q {
#if defined(__x86_64__)
const Ops& ops_avxvnni_evex();
#endif
}  // namespace h2q

namespace laws {

inline int failures = 0;

inline void set_codes() {
  const uint8_t columns[2][12] = {{17, 24, 4, 1, 4, 0, 14, 24, 6, 8, 28, 19},
                                  {10, 27, 7, 1, 18, 8, 4, 20, 12, 18, 11, 18}};
  int8_t levels[32];
  for (int i = 0; i < 32; ++i) levels[i] = static_cast<int8_t>(-62 + 4 * i);
  for (int bits : {1, 2}) h2q::set_code_tables(bits, columns[bits - 1], levels);
}

inline bool executed(const char* feature) {
  for (const h2q::Feature& f : h2q::features())
    if (f.name == feature) return f.executed;
  return false;
}

// The usable paths, and AVX-VNNI in the encoding of AVX-512 where only that one can be executed.
inline std::vector<const h2q::Ops*> paths() {
  auto out = h2q::usable_paths();
#if defined(__x86_64__)
  if (executed("avx512") && executed("avx512_vnni")) out.push_back(&h2q::ops_avxvnni_evex());
#endif
  return out;
}

// Numbers from mt19937 by integer arithmetic and one exact product: no library has a say in them.
class Draw {
 public:
  explicit Draw(uint32_t seed) : words_(seed) {}
  uint32_t word() { return static_cast<uint32_t>(words_()); }
  int below(int count) { return static_cast<int>(word() % static_cast<uint32_t>(count)); }
  // About normal: the sum of four numbers of 16 bits, deviation one.
  float normal() {
    int sum = -2 * 65535;
    for (int i = 0; i < 4; ++i) sum += static_cast<int>(word() >> 16);
    return static_cast<float>(sum) * (1.0f / 37837.0f);
  }
  std::vector<float> normal(size_t count, float deviation = 1.0f) {
    std::vector<float> out(count);
    for (float& v : out) v = normal() * deviation;
    return out;
  }
  std::vector<uint8_t> bytes(size_t count) {
    std::vector<uint8_t> out(count);
    for (auto& b : out) b = static_cast<uint8_t>(word());
    return out;
  }

 private:
  std::mt19937 words_;
};

inline size_t code_bytes(const h2q::PlaneView& plane) {
  return static_cast<size_t>(plane.panels) * plane.lines * h2q::kLineLanes;
}

// A plane of any codes whatever, which begin `offset` bytes after a border of the allocator and end with it.
struct RandomPlane {
  h2q::PlaneView view;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;

  RandomPlane(Draw& draw, int bits, int rows, int cols, size_t offset = 0) : view(h2q::plane_layout(bits, rows, cols)) {
    codes = draw.bytes(code_bytes(view) + offset);
    scales.resize(static_cast<size_t>(rows));
    for (auto& s : scales) s = static_cast<uint16_t>(0x3c00 + draw.below(512));
    view.codes = codes.data() + offset;
    view.scales = scales.data();
  }
};

using Bytes = std::vector<uint8_t>;

template <typename T>
void put(Bytes& out, const std::vector<T>& values) {
  const size_t at = out.size(), size = values.size() * sizeof(T);
  out.resize(at + size);
  if (size > 0) std::memcpy(out.data() + at, values.data(), size);
}

// Rounded inputs.
struct Activations {
  std::vector<int8_t> codes;
  std::vector<float> scale;
  std::vector<int32_t> sums;
  int tokens, stride;
  size_t offset;
  bool finite;

  // Codes begin `offset` bytes after a border of the allocator.
  Activations(int count, int width, size_t after = 0)
      : codes(static_cast<size_t>(count) * ((width + 31) / 32 * 32) + after), scale(static_cast<size_t>(count)),
        sums(static_cast<size_t>(count)), tokens(count), stride((width + 31) / 32 * 32), offset(after) {}
  static Activations of(const std::vector<float>& x, int tokens, int width, size_t offset = 0) {
    Activations a(tokens, width, offset);
    a.finite = h2q::quantize_tokens(x.data(), tokens, width, a.stride, a.codes.data() + offset, a.scale.data(),
                                    a.sums.data());
    return a;
  }
  h2q::ActivationView view() const { return {codes.data() + offset, scale.data(), sums.data(), tokens, stride}; }
  void give(Bytes& out) const {
    put(out, codes), put(out, scale), put(out, sums);
    put(out, std::vector<uint8_t>{finite});
  }
};

inline void expect(bool good, const char* path, const char* what) {
  if (good) return;
  std::printf("%s: %s\n", path, what);
  ++failures;
}

inline int verdict() {
  std::printf("%d failures\n", failures);
  return failures != 0;
}

}  // namespace laws
