// A layer from whole operations: between them no thread waits for anything but the next product.
#include "layer.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "dispatch.hpp"

namespace h2q {
namespace {

template <typename T>
T* reserve(std::vector<T>& scratch, size_t count) {
  if (scratch.size() < count) scratch.resize(count);
  return scratch.data();
}

// Rows of floats out of one piece of memory, which the thread keeps.
class Room {
 public:
  Room(std::vector<float>& scratch, int rows, int64_t floats)
      : rows_(rows), next_(reserve(scratch, static_cast<size_t>(rows * floats))) {}
  float* take(int width) {
    float* found = next_;
    next_ += int64_t{rows_} * width;
    return found;
  }

 private:
  int rows_;
  float* next_;
};

void add_bias(float* x, const float* bias, int rows, int width) {
  if (bias == nullptr) return;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < width; ++i) x[row * width + i] = x[row * width + i] + bias[i];
}

// Queries or keys, normalised and turned: in x or in spare, which has their size.
float* place(const LayerView& l, const StepView& s, float* x, const float* gain, int heads, float* spare) {
  const int64_t row_width = int64_t{heads} * l.head_dim;
  if (gain != nullptr) {
    normalise(x, gain, l.eps, s.rows * heads, l.head_dim, spare);
    std::swap(x, spare);
  }
  if (s.cos == nullptr) return x;
  if (s.turned == l.head_dim) {
    positions(x, s.cos, s.sin, s.rows, heads, l.head_dim, spare);
    return spare;
  }
  const Ops& ops = active();
  for (int64_t row = 0; row < s.rows; ++row)
    for (int64_t head = 0; head < heads; ++head) {
      float* at = x + row * row_width + head * l.head_dim;
      ops.rope(at, s.cos + row * (s.turned / 2), s.sin + row * (s.turned / 2), 1, s.turned, spare);
      std::memcpy(at, spare, static_cast<size_t>(s.turned) * sizeof(float));
    }
  return x;
}

// What attention or MLP answered, before it is added; spare has its size.
void ready(const LayerView& l, int rows, float* found, const float* after, float* spare) {
  const int64_t count = int64_t{rows} * l.width;
  if (after != nullptr) {
    normalise(found, after, l.eps, rows, l.width, spare);
    std::memcpy(found, spare, static_cast<size_t>(count) * sizeof(float));
  }
  if (l.multiplier != 1.0f)
    for (int64_t i = 0; i < count; ++i) found[i] = found[i] * l.multiplier;
}

}  // namespace

static bool project_rows(const RotationView& turn, const StackView* stacks, int count, const RowSource& x, int tokens,
                         float* out) {
  thread_local std::vector<int8_t> codes;
  thread_local std::vector<float> scales;
  thread_local std::vector<int32_t> sums;
  int stride = (turn.width + 31) / 32 * 32;
  for (int s = 0; s < count; ++s)
    for (int p = 0; p < stacks[s].count; ++p) stride = std::max(stride, stacks[s].planes[p].padded_cols);
  const size_t rows = static_cast<size_t>(tokens);
  const ActivationView inputs{reserve(codes, rows * static_cast<size_t>(stride)), reserve(scales, rows),
                              reserve(sums, rows), tokens, stride};
  if (!rotate_quantize_rows(turn, x, tokens, stride, codes.data(), scales.data(), sums.data())) return false;
  for (int s = 0; s < count; ++s) {
    matmul(stacks[s].planes, stacks[s].count, inputs, out);
    out += int64_t{tokens} * stacks[s].rows();
  }
  return true;
}

bool project(const RotationView& turn, const StackView* stacks, int count, const float* x, int tokens, float* out) {
  const auto there = [&](int64_t t, float*) { return x + t * turn.width; };
  return project_rows(turn, stacks, count, rows_of(there, 0), tokens, out);
}

Fault run_layer(const LayerView& l, const PagesView& pages, const StepView& s, const float* x, float* out) {
  const int rows = s.rows, queries = l.heads * l.head_dim, keys = l.kv_heads * l.head_dim, inner = l.stacks[4].rows();
  const Ops& ops = active();
  thread_local std::vector<float> scratch;
  Room room(scratch, rows, int64_t{3} * l.width + 3 * queries + 3 * keys + 2 * inner);
  float *found = room.take(l.width), *total = room.take(l.width), *aside = room.take(l.width);
  float *q = room.take(queries), *k = room.take(keys), *v = room.take(keys);  // as project writes them
  float *mixed = room.take(queries), *q_spare = room.take(queries), *k_spare = room.take(keys);
  float *gate_out = room.take(inner), *up_out = room.take(inner);

  // What matrices read is made row by row on its way to them: it stays in the nearest cache.
  const auto entering = [&](int64_t t, float* row) {
    ops.rms_norm(x + t * l.width, l.input_norm, l.eps, l.width, row);
    return row;
  };
  if (!project_rows(l.turns[0], l.stacks, 3, rows_of(entering, 2 * l.width), rows, q)) return Fault::attention_input;
  add_bias(q, l.biases[0], rows, queries);
  add_bias(k, l.biases[1], rows, keys);
  add_bias(v, l.biases[2], rows, keys);
  q = place(l, s, q, l.q_norm, l.heads, q_spare);
  k = place(l, s, k, l.k_norm, l.kv_heads, k_spare);
  if (!store_rows(pages, k, v, s.slots, rows)) return Fault::pages;
  if (!attend_rows({pages, q, s.tables, s.streams, s.seen, nullptr, mixed, rows, l.heads, s.most_pages, l.window,
                    l.scale, l.softcap}))
    return Fault::pages;
  if (!project(l.turns[1], l.stacks + 3, 1, mixed, rows, found)) return Fault::attention_output;
  add_bias(found, l.biases[3], rows, l.width);
  ready(l, rows, found, l.after_attention, aside);

  const auto between = [&](int64_t t, float* row) {
    const int64_t at = t * l.width;
    ops.add_rms_norm(x + at, found + at, l.post_norm, l.eps, l.width, total + at, row);
    return row;
  };
  if (!project_rows(l.turns[2], l.stacks + 4, 2, rows_of(between, 3 * l.width), rows, gate_out))
    return Fault::mlp_input;
  add_bias(gate_out, l.biases[4], rows, inner);
  add_bias(up_out, l.biases[5], rows, inner);
  const auto gated = [&](int64_t t, float* row) {
    const int64_t at = t * inner;
    (l.gaussian ? ops.geglu : ops.swiglu)(gate_out + at, up_out + at, inner, row);
    return row;
  };
  if (!project_rows(l.turns[3], l.stacks + 6, 1, rows_of(gated, 8 * inner), rows, found)) return Fault::mlp_output;
  add_bias(found, l.biases[6], rows, l.width);
  ready(l, rows, found, l.after_mlp, aside);
  add(total, found, int64_t{rows} * l.width, out);
  return Fault::none;
}

}  // namespace h2q
