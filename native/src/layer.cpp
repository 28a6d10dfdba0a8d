// A layer from whole operations: between them no thread waits for anything but the next product.
#include "layer.hpp"

#include <algorithm>
#include <cstring>
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

// Queries or keys, normalised and turned in place; spare has their size.
void place(const LayerView& l, const StepView& s, float* x, const float* gain, int heads, float* spare) {
  const int64_t row_width = int64_t{heads} * l.head_dim;
  if (gain != nullptr) {
    normalise(x, gain, l.eps, s.rows * heads, l.head_dim, spare);
    std::memcpy(x, spare, static_cast<size_t>(s.rows * row_width) * sizeof(float));
  }
  if (s.cos == nullptr) return;
  if (s.turned == l.head_dim) {
    positions(x, s.cos, s.sin, s.rows, heads, l.head_dim, spare);
    std::memcpy(x, spare, static_cast<size_t>(s.rows * row_width) * sizeof(float));
    return;
  }
  const Ops& ops = active();
  for (int64_t row = 0; row < s.rows; ++row)
    for (int64_t head = 0; head < heads; ++head) {
      float* at = x + row * row_width + head * l.head_dim;
      ops.rope(at, s.cos + row * (s.turned / 2), s.sin + row * (s.turned / 2), 1, s.turned, spare);
      std::memcpy(at, spare, static_cast<size_t>(s.turned) * sizeof(float));
    }
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

bool project(const RotationView& turn, const StackView* stacks, int count, const float* x, int tokens, float* out) {
  thread_local std::vector<int8_t> codes;
  thread_local std::vector<float> scales;
  thread_local std::vector<int32_t> sums;
  int stride = (turn.width + 31) / 32 * 32;
  for (int s = 0; s < count; ++s)
    for (int p = 0; p < stacks[s].count; ++p) stride = std::max(stride, stacks[s].planes[p].padded_cols);
  const size_t rows = static_cast<size_t>(tokens);
  const ActivationView inputs{reserve(codes, rows * static_cast<size_t>(stride)), reserve(scales, rows),
                              reserve(sums, rows), tokens, stride};
  if (!rotate_quantize_tokens(turn, x, tokens, stride, codes.data(), scales.data(), sums.data())) return false;
  for (int s = 0; s < count; ++s) {
    matmul(stacks[s].planes, stacks[s].count, inputs, out);
    out += int64_t{tokens} * stacks[s].rows();
  }
  return true;
}

Fault run_layer(const LayerView& l, const PagesView& pages, const StepView& s, const float* x, float* out) {
  const int rows = s.rows, queries = l.heads * l.head_dim, keys = l.kv_heads * l.head_dim, inner = l.stacks[4].rows();
  thread_local std::vector<float> scratch;
  Room room(scratch, rows, int64_t{3} * l.width + 3 * queries + 2 * keys + 3 * inner);
  float *normed = room.take(l.width), *found = room.take(l.width), *total = room.take(l.width);
  float *q = room.take(queries), *k = room.take(keys), *v = room.take(keys);  // as project writes them
  float *mixed = room.take(queries), *spare = room.take(queries);
  float *gate_out = room.take(inner), *up_out = room.take(inner), *inside = room.take(inner);

  normalise(x, l.input_norm, l.eps, rows, l.width, normed);
  if (!project(l.turns[0], l.stacks, 3, normed, rows, q)) return Fault::attention_input;
  add_bias(q, l.biases[0], rows, queries);
  add_bias(k, l.biases[1], rows, keys);
  add_bias(v, l.biases[2], rows, keys);
  place(l, s, q, l.q_norm, l.heads, spare);
  place(l, s, k, l.k_norm, l.kv_heads, spare);
  if (!store_rows(pages, k, v, s.slots, rows)) return Fault::pages;
  if (!attend_rows({pages, q, s.tables, s.streams, s.seen, nullptr, mixed, rows, l.heads, s.most_pages, l.window,
                    l.scale, l.softcap}))
    return Fault::pages;
  if (!project(l.turns[1], l.stacks + 3, 1, mixed, rows, found)) return Fault::attention_output;
  add_bias(found, l.biases[3], rows, l.width);
  ready(l, rows, found, l.after_attention, normed);
  add_and_normalise(x, found, l.post_norm, l.eps, rows, l.width, total, normed);

  if (!project(l.turns[2], l.stacks + 4, 2, normed, rows, gate_out)) return Fault::mlp_input;
  add_bias(gate_out, l.biases[4], rows, inner);
  add_bias(up_out, l.biases[5], rows, inner);
  (l.gaussian ? gate_gaussian : gate)(gate_out, up_out, int64_t{rows} * inner, inside);
  if (!project(l.turns[3], l.stacks + 6, 1, inside, rows, found)) return Fault::mlp_output;
  add_bias(found, l.biases[6], rows, l.width);
  ready(l, rows, found, l.after_mlp, normed);
  for (int64_t i = 0; i < int64_t{rows} * l.width; ++i) out[i] = total[i] + found[i];
  return Fault::none;
}

}  // namespace h2q
