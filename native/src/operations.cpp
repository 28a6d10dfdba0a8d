// Whole operations: cut into units for the pool, or done at once where waking threads would cost more than it saves.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "dispatch.hpp"
#include "pool.hpp"

namespace h2q {
namespace {

constexpr int64_t kSmallWork = 1 << 19;  // elementary steps that one thread does in the time of waking another

// Calls work(first, last) over [0, count), in parallel when count * cost is large.
template <typename Work>
void spread(int count, int64_t cost, const Work& work) {
  const int parts = count * cost < kSmallWork ? 1 : std::min(count, 4 * pool_threads());
  if (parts <= 1) {
    work(0, count);
    return;
  }
  parallel_for(parts, [&](int part, int) {
    work(static_cast<int>(static_cast<int64_t>(count) * part / parts),
         static_cast<int>(static_cast<int64_t>(count) * (part + 1) / parts));
  });
}

}  // namespace

void rotate_tokens(const RotationView& r, const float* x, float* out, int tokens, bool inverse) {
  const Ops& ops = active();
  spread(tokens, int64_t{16} * r.width, [&](int first, int last) {
    for (int64_t t = first; t < last; ++t) ops.rotate(r, x + t * r.width, out + t * r.width, inverse);
  });
}

bool quantize_tokens(const float* x, int tokens, int width, int stride, int8_t* codes, float* scale, int32_t* sums) {
  const Ops& ops = active();
  std::atomic<bool> finite{true};
  spread(tokens, width, [&](int first, int last) {
    for (int64_t t = first; t < last; ++t)
      if (!ops.quantize(x + t * width, width, stride, codes + t * stride, scale + t, sums + t)) finite = false;
  });
  return finite;
}

bool rotate_quantize_rows(const RotationView& r, const RowSource& source, int tokens, int stride, int8_t* codes,
                          float* scale, int32_t* sums) {
  const Ops& ops = active();
  std::atomic<bool> finite{true};
  spread(tokens, int64_t{8} * r.width + source.cost, [&](int first, int last) {
    thread_local std::vector<float> room;
    if (room.size() < static_cast<size_t>(r.width)) room.resize(static_cast<size_t>(r.width));
    for (int64_t t = first; t < last; ++t) {
      const float* x = source.row(source.object, t, room.data());
      if (!ops.rotate_quantize(r, x, stride, codes + t * stride, scale + t, sums + t)) finite = false;
    }
  });
  return finite;
}

bool rotate_quantize_tokens(const RotationView& r, const float* x, int tokens, int stride, int8_t* codes, float* scale,
                            int32_t* sums) {
  const auto there = [&](int64_t t, float*) { return x + t * r.width; };
  return rotate_quantize_rows(r, rows_of(there, 0), tokens, stride, codes, scale, sums);
}

void dense(const DenseView& view) {
  const Ops& ops = active();
  spread(view.rows, int64_t{view.width} * view.tokens, [&](int first, int last) { ops.dense(view, first, last); });
}

void matmul_rounded(RoundedView view, const int8_t* codes, int stride) {
  const Ops& ops = active();
  thread_local std::vector<int8_t> scratch;
  const int tiles = (view.tokens + kRoundedTile - 1) / kRoundedTile, blocks = (view.rows + 15) / 16;
  const int64_t size = int64_t{4} * kRoundedTile * view.groups;
  scratch.assign(static_cast<size_t>(tiles * size), 0);
  int8_t* x = scratch.data();
  spread(tiles, size, [&](int first, int last) {
    for (int tile = first; tile < last; ++tile)
      for (int k = 0; k < kRoundedTile && tile * kRoundedTile + k < view.tokens; ++k) {
        const int8_t* from = codes + int64_t{stride} * (tile * kRoundedTile + k);
        int8_t* to = x + tile * size + 4 * k;
        for (int g = 0; g < view.groups; ++g) std::memcpy(to + int64_t{4} * kRoundedTile * g, from + 4 * g, 4);
      }
  });
  view.x = x;
  spread(blocks, tiles * size / 2, [&](int first, int last) { ops.rounded(view, first, last); });
}

// Levels of one row, walked lane by lane.
static void row_levels(const PlaneView& p, int row, int8_t* out) {
  const int height = p.panel_rows(), within = row % height, t = within / 16, r = within % 16;
  const uint8_t* codes = p.panel(row / height);
  for (int c = 0; c < 4; ++c) {
    const int lane = 4 * r + c;
    for (int g = 0; 4 * g + c < p.cols; ++g) {
      const int step = g * p.steps + t;
      uint32_t stream = 0;  // the last three bytes up to this step
      for (int line = std::max(0, step / p.symbols - 2); line <= step / p.symbols; ++line)
        stream = stream << 8 | codes[static_cast<int64_t>(line) * kLineLanes + lane];
      const int drop = 8 - p.tables->bits * (step % p.symbols + 1);
      out[4 * g + c] = p.tables->state_levels[(stream >> drop) & (kStates - 1)];
    }
  }
}

void gather(const PlaneView* planes, int count, const int64_t* ids, int tokens, float* out) {
  const int cols = planes[0].cols;
  spread(tokens, int64_t{16} * cols * count, [&](int first, int last) {
    std::vector<int8_t> levels(static_cast<size_t>(cols));
    for (int64_t t = first; t < last; ++t)
      for (int p = 0; p < count; ++p) {
        row_levels(planes[p], static_cast<int>(ids[t]), levels.data());
        const float scale = widen(planes[p].scales[ids[t]]);
        float* row = out + t * cols;
        for (int j = 0; j < cols; ++j) {
          const float part = scale * static_cast<float>(levels[static_cast<size_t>(j)]);
          row[j] = p == 0 ? part : row[j] + part;
        }
      }
  });
}

void decode(const PlaneView& plane, int8_t* out) {
  spread(plane.rows, int64_t{8} * plane.cols, [&](int first, int last) {
    for (int row = first; row < last; ++row) row_levels(plane, row, out + static_cast<int64_t>(row) * plane.cols);
  });
}

void attention(const AttentionView& a) {
  const Ops& ops = active();
  const int queries = a.batch * a.heads * a.tokens;
  spread(queries, int64_t{2} * a.width * (a.start + a.tokens), [&](int first, int last) {
    std::vector<float> scores(static_cast<size_t>(a.start + a.tokens + 16));
    for (int i = first; i < last; ++i)
      ops.attend(a, i / (a.heads * a.tokens), i / a.tokens % a.heads, i % a.tokens, scores.data());
  });
}

void normalise(const float* x, const float* weight, float eps, int tokens, int width, float* out) {
  const Ops& ops = active();
  spread(tokens, 2 * width, [&](int first, int last) {
    for (int64_t t = first; t < last; ++t) ops.rms_norm(x + t * width, weight, eps, width, out + t * width);
  });
}

void add_and_normalise(const float* x, const float* delta, const float* weight, float eps, int tokens, int width,
                       float* total, float* out) {
  const Ops& ops = active();
  spread(tokens, 3 * width, [&](int first, int last) {
    for (int64_t t = first; t < last; ++t)
      ops.add_rms_norm(x + t * width, delta + t * width, weight, eps, width, total + t * width, out + t * width);
  });
}

using Pairwise = void (*)(const float*, const float*, int64_t, float*);

static void in_pieces(Pairwise form, int64_t cost, const float* x, const float* y, int64_t count, float* out) {
  constexpr int64_t kPiece = 1 << 14;
  const int pieces = static_cast<int>((count + kPiece - 1) / kPiece);
  spread(pieces, cost * kPiece, [&](int first, int last) {
    const int64_t begin = first * kPiece, end = std::min(count, last * kPiece);
    form(x + begin, y + begin, end - begin, out + begin);
  });
}

void add(const float* x, const float* y, int64_t count, float* out) {
  const Pairwise sum = [](const float* a, const float* b, int64_t size, float* to) {
    for (int64_t i = 0; i < size; ++i) to[i] = a[i] + b[i];
  };
  in_pieces(sum, 1, x, y, count, out);
}

void gate(const float* gate, const float* up, int64_t count, float* out) {
  in_pieces(active().swiglu, 8, gate, up, count, out);
}

void gate_gaussian(const float* gate, const float* up, int64_t count, float* out) {
  in_pieces(active().geglu, 8, gate, up, count, out);
}

void gate_clamped(const float* gate, const float* up, int64_t count, float* out) {
  in_pieces(active().clamped_swiglu, 8, gate, up, count, out);
}

// The k largest of x in order, the first of equals first.
static void largest(const float* x, int count, int k, int64_t* ids) {
  const auto before = [x](int64_t a, int64_t b) { return x[a] > x[b] || (x[a] == x[b] && a < b); };
  std::vector<int64_t> kept;  // a heap, the last of the best on top
  for (int64_t i = 0; i < count; ++i) {
    if (static_cast<int>(kept.size()) == k) {
      if (!(x[i] > x[kept.front()])) continue;
      std::pop_heap(kept.begin(), kept.end(), before);
      kept.back() = i;
    } else {
      kept.push_back(i);
    }
    std::push_heap(kept.begin(), kept.end(), before);
  }
  std::sort_heap(kept.begin(), kept.end(), before);
  std::copy(kept.begin(), kept.end(), ids);
}

bool softmax_top(const float* logits, int tokens, int count, int k, float* best, double* norm, double* product,
                 int64_t* ids) {
  const Ops& ops = active();
  std::atomic<bool> good{true};
  spread(tokens, int64_t{16} * count, [&](int first, int last) {
    for (int64_t t = first; t < last; ++t) {
      const float* x = logits + t * count;
      if (!ops.softmax_sums(x, count, best + t, ids + t * k, norm + t, product + t)) good = false;
      else if (k > 1) largest(x, count, k, ids + t * k);
    }
  });
  return good;
}

void positions(const float* x, const float* cos, const float* sin, int tokens, int heads, int width, float* out) {
  const Ops& ops = active();
  spread(tokens, int64_t{4} * heads * width, [&](int first, int last) {
    for (int64_t t = first; t < last; ++t) {
      const int64_t at = t * heads * width;
      ops.rope(x + at, cos + t * (width / 2), sin + t * (width / 2), heads, width, out + at);
    }
  });
}

}  // namespace h2q
