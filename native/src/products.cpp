// Planes times tokens: blocks of tokens x panels x ranges of columns are the units of work; sums are integers, so that
// any cut gives the same bits.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "dispatch.hpp"
#include "pool.hpp"

namespace h2q {
namespace {

// Cycles, about.
constexpr int64_t kSmallWork = 20'000;  // below which threads are not worth waking
constexpr int64_t kUnitWork = 40'000;   // below which more ranges than threads are not worth their own sums
constexpr int kFewestTurns = 16;        // of a range
constexpr int kFewestCells = 4;         // of a range, where inputs come in cells
constexpr int kTileSizes[] = {1, 2, 4, 6, 8};
constexpr int kMostTokens = 8;  // of a tile; twice as many where inputs come in cells
constexpr int kMostTiles = 16;  // of a block: tiles that share one decoding of the weights

template <typename T>
T* reserve(std::vector<T>& scratch, size_t count) {
  if (scratch.size() < count) scratch.resize(count);
  return scratch.data();
}

// Some tiles of tokens [first, last).
struct Block {
  int first, last, tiles;
  const int8_t* x;
};

class Product {
 public:
  Product(const PlaneView* planes, int count, const ActivationView& x, float* out)
      : ops_(active()), cell_(x.tokens < kCellTokens ? 1 : ops_.cell), planes_(planes), count_(count), x_(x),
        out_(out), panels_(planes[0].panels), height_(planes[0].panel_rows()), width_(kMostTokens), inputs_(x.codes), tile_stride_(0) {
    int groups = 0;
    for (int p = 0; p < count; ++p) {
      groups = std::max(groups, planes[p].groups());
      work_ += int64_t{1} * panels_ * planes[p].lines * planes[p].symbols * (3 + x.tokens);
    }
    if (cell_ > 1) {
      const int fewest = (x.tokens + 2 * kMostTokens - 1) / (2 * kMostTokens);
      width_ = (x.tokens + fewest - 1) / fewest;
    } else {
      for (int size : kTileSizes)
        if (size >= x.tokens) width_ = std::min(width_, size);
    }
    const int cells = (groups + cell_ - 1) / cell_;
    if (width_ > 1 || 4 * cells * cell_ > x.stride) interleave(cells);
    const int tiles = (x.tokens + width_ - 1) / width_;
    const int blocks = (tiles + kMostTiles - 1) / kMostTiles;
    for (int b = 0; b < blocks; ++b) {
      const int first = tiles * b / blocks, end = tiles * (b + 1) / blocks;
      blocks_.push_back({first * width_, std::min(x.tokens, end * width_), end - first, inputs_ + first * tile_stride_});
    }
  }

  void run() {
    const int blocks = static_cast<int>(blocks_.size()), jobs = panels_ * blocks;
    if (work_ < kSmallWork || pool_threads() == 1) {
      for (int job = 0; job < jobs; ++job) whole(job);
      return;
    }
    int turns = planes_[0].groups();  // as few as any plane has
    for (int p = 0; p < count_; ++p) turns = std::min(turns, planes_[p].groups() / turn_groups(planes_[p]));
    const int fewest = cell_ > 1 ? kFewestCells : kFewestTurns;
    const int64_t threads = pool_threads(), worth = std::clamp<int64_t>(work_ / kUnitWork, threads, 4 * threads);
    const int wanted = static_cast<int>((worth + jobs - 1) / jobs);
    const int ranges = std::clamp(wanted, 1, std::max(1, turns / fewest));
    if (ranges == 1) parallel_for(jobs, [&](int job, int) { whole(job); });
    else in_ranges(ranges);
  }

 private:
  // Groups at whose ends the columns may be cut.
  int turn_groups(const PlaneView& plane) const { return std::max(cell_, plane.symbols / plane.steps); }
  const Block& block_of(int job) const { return blocks_[static_cast<size_t>(job) % blocks_.size()]; }
  int panel_of(int job) const { return job / static_cast<int>(blocks_.size()); }
  size_t cells(const Block& block) const { return static_cast<size_t>(block.tiles * width_ * height_); }

  // (tile, cell, token, bytes of a cell): inputs of all tokens of a tile lie side by side; missing tokens are silent, and
  // so is what a cell has beyond the inputs.
  void interleave(int cells) {
    thread_local std::vector<int8_t> scratch;
    const int tiles = (x_.tokens + width_ - 1) / width_, bytes = 4 * cell_;
    tile_stride_ = int64_t{bytes} * cells * width_;
    int8_t* room = reserve(scratch, static_cast<size_t>(tiles * tile_stride_));
    const auto fill = [&](int tile, int) {
      for (int k = 0; k < width_; ++k) {
        const int token = tile * width_ + k;
        int8_t* to = room + tile * tile_stride_ + bytes * k;
        if (token >= x_.tokens) spread_token(nullptr, 0, cells, to);
        else spread_token(x_.codes + static_cast<int64_t>(token) * x_.stride, x_.stride, cells, to);
      }
    };
    if (tiles > 4) parallel_for(tiles, fill);
    else
      for (int tile = 0; tile < tiles; ++tile) fill(tile, 0);
    inputs_ = room;
  }

  // The first `count` inputs of a token into its place in every cell.
  void spread_token(const int8_t* from, int count, int cells, int8_t* to) const {
    const auto move = [&](auto bytes) {
      const int64_t step = int64_t{bytes} * width_;
      const int whole = std::min(cells, count / bytes);
      for (int cell = 0; cell < whole; ++cell) std::memcpy(to + step * cell, from + bytes * cell, bytes);
      for (int cell = whole; cell < cells; ++cell) {
        const int left = std::max(0, count - bytes * cell);
        if (left > 0) std::memcpy(to + step * cell, from + bytes * cell, static_cast<size_t>(left));
        std::memset(to + step * cell + left, 0, static_cast<size_t>(bytes - left));
      }
    };
    if (cell_ == 1) move(std::integral_constant<int, 4>{});
    else move(std::integral_constant<int, 64>{});
  }

  // Range `part` of `parts` of every plane; sums (plane, token, 16 R).
  void sums_of(int job, int part, int parts, int32_t* sums) const {
    const Block& block = block_of(job);
    for (int p = 0; p < count_; ++p, sums += cells(block)) {
      const PlaneView& plane = planes_[p];
      const int groups = turn_groups(plane);
      const int64_t turns = (plane.groups() + groups - 1) / groups;
      const int first = static_cast<int>(turns * part / parts) * groups;
      const int last = std::min(static_cast<int>(turns * (part + 1) / parts) * groups, plane.groups());
      ops_.panel_sums(plane, panel_of(job), first, last, block.x + int64_t{4} * first * width_, width_, block.tiles,
                      tile_stride_, sums);
    }
  }
  void finish(int job, const int32_t* sums) const {
    const Block& block = block_of(job);
    ops_.finish(planes_, count_, panel_of(job), sums, block.tiles * width_, x_, block.first, block.last, out_);
  }

  void whole(int job) const {
    thread_local std::vector<int32_t> scratch;
    int32_t* sums = reserve(scratch, static_cast<size_t>(count_) * cells(block_of(job)));
    sums_of(job, 0, 1, sums);
    finish(job, sums);
  }

  // Whoever is last at a job adds up its ranges.
  void in_ranges(int ranges) const {
    thread_local std::vector<int32_t> scratch;
    const size_t jobs = static_cast<size_t>(panels_) * blocks_.size(), parts = static_cast<size_t>(ranges);
    size_t room = 0;
    for (const Block& block : blocks_) room = std::max(room, static_cast<size_t>(count_) * cells(block));
    int32_t* all = reserve(scratch, jobs * parts * room);
    const std::unique_ptr<std::atomic<int>[]> left(new std::atomic<int>[jobs]);
    for (size_t job = 0; job < jobs; ++job) left[job] = ranges;
    parallel_for(static_cast<int>(jobs * parts), [&](int index, int) {
      const int job = index / ranges, part = index % ranges;
      int32_t* sums = all + static_cast<size_t>(job) * parts * room;
      sums_of(job, part, ranges, sums + static_cast<size_t>(part) * room);
      if (left[static_cast<size_t>(job)].fetch_sub(1) > 1) return;
      const size_t used = static_cast<size_t>(count_) * cells(block_of(job));
      for (size_t more = 1; more < parts; ++more)
        for (size_t i = 0; i < used; ++i) sums[i] += sums[more * room + i];
      finish(job, sums);
    });
  }

  const Ops& ops_;
  const int cell_;  // groups of inputs that lie together
  const PlaneView* planes_;
  int count_;
  const ActivationView& x_;
  float* out_;
  int panels_, height_, width_;  // width: tokens of a tile
  const int8_t* inputs_;
  int64_t tile_stride_, work_ = 0;
  std::vector<Block> blocks_;
};

}  // namespace

void matmul(const PlaneView* planes, int count, const ActivationView& x, float* out) {
  if (x.tokens > 0) Product(planes, count, x, out).run();
}

}  // namespace h2q
