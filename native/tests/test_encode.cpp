// The encoder without Python: exact codewords, every path, width and thread count against a plain Viterbi, odd inputs.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "encode.hpp"
#include "laws.hpp"
#include "pool.hpp"

namespace {

using Codes = std::vector<uint8_t>;

laws::Draw draw(1);

void expect(bool good, const char* path, const char* what, int bits, int rows, int cols) {
  const std::string shape = std::to_string(bits) + " bits, " + std::to_string(rows) + " x " + std::to_string(cols);
  laws::expect(good, path, (std::string(what) + ", " + shape).c_str());
}

std::vector<float> coupling(int cols) {
  auto out = draw.normal(static_cast<size_t>(cols) * cols, 0.125f);
  for (int i = 0; i < cols; ++i) std::fill_n(&out[static_cast<size_t>(i) * cols], i + 1, 0.0f);
  return out;
}

Codes empty_codes(const h2q::PlaneView& plane) { return Codes(laws::code_bytes(plane), 0xa5); }

Codes encoded(int bits, int rows, int cols, const std::vector<float>& target, const float* feedback, int commit,
              int lookahead) {
  Codes codes = empty_codes(h2q::plane_layout(bits, rows, cols));
  h2q::encode_plane(bits, rows, cols, target.data(), feedback, commit, lookahead, codes.data(), {});
  return codes;
}

// Viterbi of one lane as the definition has it: every state, costs in int, no renormalising.
std::vector<int> plain_path(const h2q::CodeTables& t, const std::vector<float>& x, int start) {
  const auto rule = h2q::cost_rule(t.bits);
  const int groups = h2q::kStates >> t.bits, ways = 1 << t.bits;
  std::vector<int> costs(h2q::kStates, h2q::start_penalty(t.bits)), next(costs);
  std::vector<std::vector<int>> from(x.size(), std::vector<int>(h2q::kStates));
  costs[static_cast<size_t>(start)] = 0;
  for (size_t step = 0; step < x.size(); ++step) {
    const float near = std::clamp(x[step], -h2q::kFarthest, h2q::kFarthest);
    const float beyond = std::max(std::fabs(near) - h2q::kOutermost, 0.0f);
    for (int s = 0; s < h2q::kStates; ++s) {
      int best = s >> t.bits;
      for (int j = 1; j < ways; ++j)
        if (const int other = (s >> t.bits) + j * groups; costs[size_t(other)] < costs[size_t(best)]) best = other;
      const float e = near - static_cast<float>(t.state_levels[s]), v = (e * e - beyond * beyond) * rule.factor;
      const float cap = static_cast<float>(rule.cap);
      next[size_t(s)] = costs[size_t(best)] + static_cast<int>((v < cap ? v : cap) + 0.5f);
      from[step][size_t(s)] = best;
    }
    std::swap(costs, next);
  }
  std::vector<int> path(x.size());
  int state = static_cast<int>(std::min_element(costs.begin(), costs.end()) - costs.begin());
  for (size_t step = x.size(); step-- > 0; state = from[step][size_t(state)]) path[step] = state;
  return path;
}

// One block that sees everything: each lane is one plain Viterbi from state zero.
void check_against_definition(const char* path, int bits, int rows, int cols, float deviation) {
  const auto plane = h2q::plane_layout(bits, rows, cols);
  auto target = draw.normal(static_cast<size_t>(rows) * cols, deviation);
  for (size_t i = 0; i < target.size(); i += 3) target[i] = std::round(target[i] / 8.0f) * 8.0f;  // ties
  const Codes found = encoded(bits, rows, cols, target, nullptr, cols, 0);
  Codes expected(found.size(), 0);
  for (int panel = 0; panel < plane.panels; ++panel)
    for (int lane = 0; lane < h2q::kLineLanes; ++lane) {
      std::vector<float> x;
      for (int g = 0; g < plane.groups(); ++g)
        for (int t = 0; t < plane.steps; ++t) {
          const int row = panel * plane.panel_rows() + 16 * t + lane / 4, col = 4 * g + lane % 4;
          x.push_back(row < rows && col < cols ? target[static_cast<size_t>(row) * cols + col] : 0.0f);
        }
      const auto states = plain_path(*plane.tables, x, 0);
      for (size_t i = 0; i < states.size(); ++i) {
        const int symbol = states[i] & ((1 << bits) - 1), shift = 8 - bits * (static_cast<int>(i) % plane.symbols + 1);
        const size_t line = static_cast<size_t>(panel) * plane.lines + i / plane.symbols;
        expected[line * h2q::kLineLanes + lane] |= static_cast<uint8_t>(symbol << shift);
      }
    }
  expect(found == expected, path, "not the path of the definition", bits, rows, cols);
}

void check_exact_codewords(const char* path, int bits, int rows, int cols) {
  auto plane = h2q::plane_layout(bits, rows, cols);
  Codes codes = empty_codes(plane);
  for (auto& c : codes) c = static_cast<uint8_t>(draw.word());
  plane.codes = codes.data();
  std::vector<int8_t> levels(static_cast<size_t>(rows) * cols), again(levels);
  h2q::decode(plane, levels.data());
  // Where every lane is full, the levels name a path of no error at all; the whole of it is seen at once.
  const Codes found = encoded(bits, rows, cols, {levels.begin(), levels.end()}, nullptr, cols, 0);
  plane.codes = found.data();
  h2q::decode(plane, again.data());
  expect(levels == again, path, "an exact codeword did not come back", bits, rows, cols);
}

void check_threads(const h2q::Ops& path, int bits, int rows, int cols) {
  const auto target = draw.normal(static_cast<size_t>(rows) * cols, 27.0f);
  const auto feedback = coupling(cols);
  h2q::use(h2q::ops_portable());
  h2q::set_pool_threads(1);
  const Codes expected = encoded(bits, rows, cols, target, feedback.data(), 16, 16);
  h2q::use(path);
  for (int threads : {1, 2, 3, 8, 9}) {  // from 3 on fewer lanes go into one search
    h2q::set_pool_threads(threads);
    const bool same = encoded(bits, rows, cols, target, feedback.data(), 16, 16) == expected;
    expect(same, path.name, "threads or path change symbols", bits, rows, cols);
  }
  h2q::set_pool_threads(2);
}

void check_results(const char* path) {
  const int rows = 16, cols = 64;
  auto target = draw.normal(rows * cols, 27.0f);
  Codes codes = empty_codes(h2q::plane_layout(2, rows, cols));
  int heard = 0;
  auto run = [&](const float* feedback, const std::function<bool(double)>& progress) {
    return h2q::encode_plane(2, rows, cols, target.data(), feedback, 16, 16, codes.data(), progress);
  };
  const auto stopped = run(nullptr, [&](double share) { return ++heard, share > 1.0; });
  expect(stopped == h2q::EncodeResult::cancelled && heard == 1, path, "did not stop", 2, rows, cols);
  double last = 0.0;
  const auto done = run(nullptr, [&](double share) { return share > last ? (last = share, true) : false; });
  expect(done == h2q::EncodeResult::done && last == 1.0, path, "progress does not rise to one", 2, rows, cols);
  auto feedback = coupling(cols);
  feedback[5] = std::numeric_limits<float>::infinity();
  expect(run(feedback.data(), {}) == h2q::EncodeResult::not_finite, path, "took infinite feedback", 2, rows, cols);
  target[77] = std::numeric_limits<float>::quiet_NaN();
  expect(run(nullptr, {}) == h2q::EncodeResult::not_finite, path, "took a NaN", 2, rows, cols);
}

void check(const h2q::Ops& ops) {
  const char* path = ops.name;
  h2q::use(ops);
  for (int bits : {1, 2}) {
    check_against_definition(path, bits, 3, 5, 27.0f);
    check_against_definition(path, bits, 64, 12, 27.0f);
    for (float deviation : {80.0f, 150.0f, 400.0f})  // many, most, nearly all distances are capped
      for (int i = 0; i < 4; ++i) check_against_definition(path, bits, 16, 48, deviation);
    for (const auto& [rows, cols] : {std::pair{16, 32}, {64, 16}, {256, 8}}) check_exact_codewords(path, bits, rows, cols);
    for (const auto& [rows, cols] : {std::pair{1, 1}, {31, 37}, {263, 41}, {19, 371}}) check_threads(ops, bits, rows, cols);
  }
  check_results(path);
}

}  // namespace

int main() {
  laws::set_codes();
  for (const h2q::Ops* path : laws::paths()) {
    std::printf("path %s\n", path->name);
    check(*path);
  }
  return laws::verdict();
}
