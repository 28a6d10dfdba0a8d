// The table of operations each path fills. Formulas and orders of addition: h2q/kernels/twins.py.
#pragma once
#include <cstdint>

#include "encode.hpp"
#include "plane.hpp"

namespace h2q {

struct RotationView {
  const float* signs;
  const float* mix;
  int width, block, mixed;  // mixed: size of the odd factor, 1 for none
};

struct AttentionView {
  const float *q, *k, *v;  // (B, T, H, hd), (B, KV, capacity, hd) twice
  float* out;              // (B, T, H, hd)
  int batch, tokens, heads, kv_heads, capacity, width, start;
};

struct Ops {
  const char* name;
  // One token each; x and out may be the same.
  void (*rotate)(const RotationView&, const float* x, float* out, bool inverse);
  // Returns false when a value is not finite.
  bool (*quantize)(const float* x, int width, int stride, int8_t* codes, float* scale, int32_t* sum);
  void (*rms_norm)(const float* x, const float* weight, float eps, int width, float* out);
  void (*swiglu)(const float* gate, const float* up, int64_t count, float* out);
  void (*rope)(const float* x, const float* cos, const float* sin, int heads, int width, float* out);
  // One query of one head; scores is scratch of start + tokens + 16 floats.
  void (*attend)(const AttentionView&, int batch, int head, int token, float* scores);
  // Rows of one panel for tokens [first, last): out is (tokens, rows) of the whole product.
  void (*panel)(const PlaneView* planes, int count, const ActivationView&, int panel, int first, int last, float* out);
  ViterbiFn viterbi;
};

const Ops& ops_portable();
#if defined(__x86_64__)
const Ops& ops_avx2();
const Ops& ops_avx512();
#endif

}  // namespace h2q
