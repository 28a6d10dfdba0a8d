#include "encode.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "dispatch.hpp"
#include "pool.hpp"

namespace h2q {
namespace {

struct Worker {
  ViterbiScratch scratch;
  std::vector<uint8_t> arguments;
  std::vector<float> line;
  std::vector<uint16_t> states;

  explicit Worker(int steps, int groups)
      : arguments(static_cast<size_t>(steps) * groups), line(static_cast<size_t>(steps)), states(line.size()) {
    scratch.arguments = arguments.data();
  }
};

class Encoder {
 public:
  Encoder(const PlaneView& plane, const float* target, const float* feedback, uint8_t* codes)
      : plane_(plane), target_(target), feedback_(feedback), codes_(codes), width_(plane.padded_cols),
        height_(plane.panels * plane.panel_rows()), corrected_(static_cast<size_t>(height_) * width_),
        errors_(corrected_.size()), lane_state_(static_cast<size_t>(plane.panels) * kLineLanes) {
    for (int r = 0; r < plane.rows; ++r)
      std::copy_n(target + static_cast<int64_t>(r) * plane.cols, plane.cols, &corrected_[at(r, 0)]);
  }

  EncodeResult run(int commit, int lookahead, const std::function<bool(double)>& progress) {
    const int unit = 4 * std::max(1, plane_.symbols / plane_.steps);
    commit = (std::max(1, commit) + unit - 1) / unit * unit;
    lookahead = std::max(0, lookahead) * 16 / plane_.steps / 4 * 4;
    const int most_steps = (std::min(commit + lookahead, width_) / 4) * plane_.steps;
    for (int i = 0; i < pool_threads(); ++i)
      workers_.push_back(std::make_unique<Worker>(most_steps, kStates >> plane_.tables->bits));
    for (int begin = 0; begin < width_; begin += commit) {
      const int end = std::min(width_, begin + commit), seen = std::min(width_, end + lookahead);
      parallel_for(plane_.panels * kLineLanes, [&](int lane, int worker) {
        code_lane(lane / kLineLanes, lane % kLineLanes, begin, end, seen, *workers_[static_cast<size_t>(worker)]);
      });
      if (feedback_) {
        constexpr int kRows = 16;
        parallel_for(height_ / kRows, [&](int rows, int) {
          for (int r = rows * kRows; r < std::min(plane_.rows, (rows + 1) * kRows); ++r) correct(r, begin, end);
        });
      }
      if (progress && !progress(static_cast<double>(end) / width_)) return EncodeResult::cancelled;
    }
    return EncodeResult::done;
  }

 private:
  size_t at(int row, int col) const { return static_cast<size_t>(row) * static_cast<size_t>(width_) + static_cast<size_t>(col); }

  void code_lane(int panel, int lane, int begin, int end, int seen, Worker& worker) {
    const int steps = plane_.steps, r = lane / 4, c = lane % 4, bits = plane_.tables->bits, mask = (1 << bits) - 1;
    const int keep = (end - begin) / 4 * steps, all = (seen - begin) / 4 * steps;
    const int first_row = panel * plane_.panel_rows() + r;
    for (int g = begin / 4, i = 0; g < seen / 4; ++g)
      for (int t = 0; t < steps; ++t, ++i)
        worker.line[static_cast<size_t>(i)] = corrected_[at(first_row + 16 * t, 4 * g + c)];
    uint16_t& state = lane_state_[static_cast<size_t>(panel * kLineLanes + lane)];
    active().viterbi(*plane_.tables, worker.scratch, worker.line.data(), all, state, keep, worker.states.data());
    uint8_t* codes = codes_ + static_cast<int64_t>(panel) * plane_.lines * kLineLanes + lane;
    for (int i = 0; i < keep; ++i) {
      const int step = begin / 4 * steps + i, now = worker.states[static_cast<size_t>(i)];
      codes[static_cast<int64_t>(step / plane_.symbols) * kLineLanes] |=
          static_cast<uint8_t>((now & mask) << (8 - bits * (step % plane_.symbols + 1)));
      const int row = first_row + 16 * (step % steps), col = 4 * (step / steps) + c;
      if (row < plane_.rows && col < plane_.cols)
        errors_[at(row, col)] = target_[static_cast<int64_t>(row) * plane_.cols + col] - plane_.tables->state_levels[now];
    }
    state = worker.states[static_cast<size_t>(keep - 1)];
  }

  // Later columns of a row make good what columns [begin, end) did wrong: for each of them, one committed column after
  // the other, product and sum rounded apart.
  void correct(int row, int begin, int end) {
    float* later = &corrected_[at(row, 0)];
    for (int i = begin; i < std::min(end, plane_.cols); ++i) {
      const float error = errors_[at(row, i)];
      const float* share = feedback_ + static_cast<int64_t>(i) * plane_.cols;
      for (int j = end; j < plane_.cols; ++j) later[j] = later[j] + error * share[j];
    }
  }

  const PlaneView& plane_;
  const float* target_;
  const float* feedback_;
  uint8_t* codes_;
  int width_, height_;
  std::vector<float> corrected_, errors_;
  std::vector<uint16_t> lane_state_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

bool finite(const float* values, int64_t count) {
  bool good = true;
  for (int64_t i = 0; i < count; ++i) good &= std::fabs(values[i]) <= 3.402823466e+38f;
  return good;
}

}  // namespace

EncodeResult encode_plane(int bits, int rows, int cols, const float* target, const float* feedback, int commit,
                          int lookahead, uint8_t* codes, const std::function<bool(double)>& progress) {
  const PlaneView plane = plane_layout(bits, rows, cols);
  if (!finite(target, static_cast<int64_t>(rows) * cols)) return EncodeResult::not_finite;
  if (feedback && !finite(feedback, static_cast<int64_t>(cols) * cols)) return EncodeResult::not_finite;
  return Encoder(plane, target, feedback, codes).run(commit, lookahead, progress);
}

}  // namespace h2q
