// A decoder layer as one operation, all of whose weights are planes. Formulas: h2q/kernels/layer_twins.py.
#pragma once
#include "ops.hpp"

namespace h2q {

// The planes of one matrix.
struct StackView {
  const PlaneView* planes;
  int count;
  int rows() const { return planes[0].rows; }
};

struct LayerView {
  RotationView turns[4];    // of what q/k/v, o, gate/up and down read
  StackView stacks[7];      // q, k, v, o, gate, up, down
  const float* biases[7];   // theirs, or null
  const float *input_norm, *post_norm, *q_norm, *k_norm, *after_attention, *after_mlp;  // the last four or null
  int width, heads, kv_heads, head_dim, window;
  float eps, scale, softcap, multiplier;  // multiplier: of what attention and MLP answer
  bool gaussian;                          // geglu instead of swiglu
};

// Rows of any streams (see PagedView); cos and sin (rows, turned / 2), or null where nothing turns.
struct StepView {
  const float *cos, *sin;
  const int64_t* slots;
  const int32_t *tables, *streams, *seen;
  int rows, turned, most_pages;
};

// Where a value is not finite.
enum class Fault { none, attention_input, pages, attention_output, mlp_input, mlp_output };

// Several matrices of one input, rotated and rounded once: out has (tokens, rows) of every stack, one after the other.
// False where a value is not finite.
bool project(const RotationView&, const StackView* stacks, int count, const float* x, int tokens, float* out);
// x and out: (rows, width), not the same.
Fault run_layer(const LayerView&, const PagesView&, const StepView&, const float* x, float* out);

}  // namespace h2q
