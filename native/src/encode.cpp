#include "encode.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "dispatch.hpp"
#include "pool.hpp"

namespace h2q {
namespace {

struct alignas(64) Line {
  uint8_t bytes[64];
};

template <typename T>
class Aligned {
 public:
  explicit Aligned(size_t count) : lines_((count * sizeof(T) + sizeof(Line) - 1) / sizeof(Line)) {}
  T* data() { return reinterpret_cast<T*>(lines_.data()); }

 private:
  std::vector<Line> lines_;
};

constexpr int kApart = 16;  // floats
constexpr int kSpan = 256;  // columns that are kept up to date beyond those in sight

typedef float Four __attribute__((vector_size(16)));

// What one thread needs for one block of one unit.
struct Worker {
  Aligned<float> targets, errors, shares;
  Aligned<int16_t> costs, choices;
  Aligned<uint16_t> path;

  Worker(int bits, int lanes, int most_steps)
      : targets(static_cast<size_t>(most_steps) * lanes), errors(static_cast<size_t>(most_steps) * lanes),
        shares(static_cast<size_t>(most_steps) * 16),
        costs(static_cast<size_t>(2 * ((kStates >> bits) + kSpareCosts)) * lanes),
        choices(static_cast<size_t>(most_steps) * kChoiceWords * lanes), path(static_cast<size_t>(most_steps) * lanes) {}
};

// Some neighbouring lanes of a panel and the rows they hold: independent of every other unit.
struct Unit {
  int first_row;                 // of the matrix, at step 0
  uint8_t* codes;                // of the first lane
  std::vector<float> corrected;  // (steps, lanes / 4, stride)
  std::vector<float> errors;     // the same shape: original less coded, of committed columns
  int ready = 0;                 // columns before it hear of every committed error, those behind it of none yet
  std::vector<uint16_t> states;  // by lane
};

class Encoder {
 public:
  Encoder(const PlaneView& plane, const float* target, const float* feedback, uint8_t* codes)
      : plane_(plane), target_(target), feedback_(feedback), kernels_(active().viterbi()),
        stride_(plane.padded_cols + kApart), lanes_(lanes_for(plane, kernels_.lanes)), units_(static_cast<size_t>(plane.panels * kLineLanes / lanes_)) {
    const int per_panel = kLineLanes / lanes_;
    parallel_for(static_cast<int>(units_.size()), [&](int index, int) {
      const int panel = index / per_panel, lane = index % per_panel * lanes_;
      Unit& unit = units_[static_cast<size_t>(index)];
      unit.first_row = panel * plane_.panel_rows() + lane / 4;
      unit.codes = codes + static_cast<int64_t>(panel) * plane_.lines * kLineLanes + lane;
      unit.states.assign(static_cast<size_t>(lanes_), 0);
      unit.corrected.assign(static_cast<size_t>(unit_rows()) * stride_, 0.0f);
      if (feedback_) unit.errors.assign(unit.corrected.size(), 0.0f);
      for (int row = 0; row < unit_rows(); ++row)
        if (const int from = matrix_row(unit, row); from < plane_.rows)
          std::copy_n(target_ + static_cast<int64_t>(from) * plane_.cols, plane_.cols, corrected(unit, row));
    });
  }

  EncodeResult run(int commit, int lookahead, const std::function<bool(double)>& progress) {
    const int width = plane_.padded_cols, unit = 4 * std::max(1, plane_.symbols / plane_.steps);
    commit = (std::clamp(commit, 1, width) + unit - 1) / unit * unit;
    lookahead = std::clamp(lookahead, 0, width) * 16 / plane_.steps / 4 * 4;
    const int most = std::min(commit + lookahead, width) / 4 * plane_.steps;
    std::vector<Worker> workers;
    const int threads = pool_threads();  // for the whole of this encoding, whatever happens to the pool
    for (int i = 0; i < threads; ++i) workers.emplace_back(plane_.tables->bits, lanes_, most);
    for (int begin = 0; begin < width; begin += commit) {
      const int end = std::min(width, begin + commit), seen = std::min(width, end + lookahead);
      const auto block = [&](int index, int worker) {
        code(units_[static_cast<size_t>(index)], begin, end, seen, workers[static_cast<size_t>(worker)]);
      };
      parallel_for(static_cast<int>(units_.size()), block, threads);
      if (progress && !progress(static_cast<double>(end) / width)) return EncodeResult::cancelled;
    }
    return EncodeResult::done;
  }

 private:
  // As wide as the path goes, unless that leaves threads without a unit.
  static int lanes_for(const PlaneView& plane, int lanes) {
    while (lanes > kFewestLanes && plane.panels * kLineLanes / lanes < pool_threads()) lanes /= 2;
    return lanes;
  }
  int unit_rows() const { return plane_.steps * lanes_ / 4; }
  int matrix_row(const Unit& unit, int row) const {
    return unit.first_row + 16 * (row / (lanes_ / 4)) + row % (lanes_ / 4);
  }
  float* corrected(Unit& unit, int row) const { return &unit.corrected[static_cast<size_t>(row) * stride_]; }

  void code(Unit& unit, int begin, int end, int seen, Worker& worker) {
    const int steps = plane_.steps, rows = lanes_ / 4, keep = (end - begin) / 4 * steps;
    const int all = (seen - begin) / 4 * steps;
    if (feedback_) catch_up(unit, begin, std::min(seen, plane_.cols));
    for (int step = 0; step < all; ++step)
      for (int r = 0; r < rows; ++r)
        std::copy_n(corrected(unit, step % steps * rows + r) + begin + step / steps * 4, 4,
                    worker.targets.data() + step * lanes_ + 4 * r);
    const uint16_t* path = worker.path.data();
    Ahead ahead{this, &unit, &worker, begin, seen - begin};
    kernels_.search(*plane_.tables, {lanes_, all, keep, worker.targets.data(), unit.states.data(), worker.costs.data(),
                                     worker.choices.data(), worker.path.data(), feedback_ ? steps : 0, revise, &ahead});
    std::copy_n(path + (keep - 1) * lanes_, lanes_, unit.states.begin());
    pack(path, keep, unit.codes + static_cast<int64_t>(begin / 4 * steps / plane_.symbols) * kLineLanes);
    if (!feedback_ || end >= plane_.cols) return;
    measure(unit, path, begin, end);
    correct(unit, begin, end, end, unit.ready);
  }

  // Columns up to `seen` and a span beyond hear of everything committed before `begin`, all at once: a product of large
  // matrices, where correcting every later column after each block would go through memory again and again.
  void catch_up(Unit& unit, int begin, int seen) const {
    if (seen <= unit.ready) return;
    const int from = unit.ready;
    unit.ready = std::min(plane_.cols, seen + kSpan);
    correct(unit, 0, begin, from, unit.ready);
  }

  void correct(Unit& unit, int begin, int end, int from, int to) const {
    kernels_.correct({unit_rows(), plane_.cols, stride_, begin, end, from, to, feedback_, unit.errors.data(),
                      unit.corrected.data()});
  }

  struct Ahead {
    const Encoder* encoder;
    const Unit* unit;
    Worker* worker;
    int begin, width;  // first column of the block, columns that are searched
  };

  static void revise(void* context, int done) {
    const auto& ahead = *static_cast<Ahead*>(context);
    ahead.encoder->expect(ahead, ahead.begin + done / ahead.encoder->plane_.steps * 4);
  }

  // While a block is searched: the targets of the group of columns from `next` on grow by what the best path so far does
  // wrong since the block's begin, one column after the other.
  void expect(const Ahead& ahead, int next) const {
    const int steps = plane_.steps, rows = lanes_ / 4, count = std::min(4, plane_.cols - next), begin = ahead.begin;
    const int news = std::max(begin, next - std::max(1, kRevised / steps) * 4);
    const uint16_t* path = ahead.worker->path.data();
    float* targets = ahead.worker->targets.data() + static_cast<size_t>(next - begin) / 4 * steps * lanes_;
    if (count <= 0) return;
    float* shares = ahead.worker->shares.data();  // side by side: rows of the feedback may lie a page apart
    for (int col = begin; col < next; ++col, shares += 4)
      for (int k = 0; k < 4; ++k)
        shares[k] = k < count ? feedback_[static_cast<int64_t>(col) * plane_.cols + next + k] : 0.0f;
    shares = ahead.worker->shares.data();
    for (int row = 0; row < unit_rows(); ++row) {
      const int from = matrix_row(*ahead.unit, row), lane = row % rows * 4;
      if (from >= plane_.rows) continue;
      const float* target = target_ + static_cast<int64_t>(from) * plane_.cols;
      float* errors = ahead.worker->errors.data() + static_cast<size_t>(row) * ahead.width;
      for (int col = news; col < next; ++col) {
        const int step = (col - begin) / 4 * steps + row / rows;
        const int level = plane_.tables->state_levels[path[step * lanes_ + lane + col % 4]];
        errors[col - begin] = target[col] - static_cast<float>(level);
      }
      Four sums;
      __builtin_memcpy(&sums, &ahead.unit->corrected[static_cast<size_t>(row) * stride_ + next], sizeof sums);
      for (int i = 0; i < next - begin; ++i) {
        Four share;
        __builtin_memcpy(&share, shares + 4 * i, sizeof share);
        sums += errors[i] * share;
      }
      __builtin_memcpy(targets + row / rows * lanes_ + lane, &sums, sizeof sums);
    }
  }

  void pack(const uint16_t* path, int keep, uint8_t* codes) const {
    const int bits = plane_.tables->bits, mask = (1 << bits) - 1;
    for (int step = 0; step < keep; step += plane_.symbols, codes += kLineLanes)
      for (int lane = 0; lane < lanes_; ++lane) {
        int byte = 0;
        for (int i = 0; i < plane_.symbols; ++i) byte = byte << bits | (path[(step + i) * lanes_ + lane] & mask);
        codes[lane] = static_cast<uint8_t>(byte);
      }
  }

  // Errors of columns [begin, end); zero in the padding.
  void measure(Unit& unit, const uint16_t* path, int begin, int end) const {
    const int rows = lanes_ / 4;
    for (int row = 0; row < unit_rows(); ++row) {
      const int from = matrix_row(unit, row);
      float* errors = &unit.errors[static_cast<size_t>(row) * stride_ + begin];
      for (int col = begin; col < end; ++col, ++errors) {
        const int step = (col - begin) / 4 * plane_.steps + row / rows, lane = row % rows * 4 + col % 4;
        const int level = plane_.tables->state_levels[path[step * lanes_ + lane]];
        const bool inside = from < plane_.rows && col < plane_.cols;
        *errors = inside ? target_[static_cast<int64_t>(from) * plane_.cols + col] - static_cast<float>(level) : 0.0f;
      }
    }
  }

  const PlaneView& plane_;
  const float* target_;
  const float* feedback_;
  const EncodeKernels& kernels_;
  int stride_;  // of rows in floats; rows a power of two apart would share a few cache sets
  int lanes_;
  std::vector<Unit> units_;
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
