// The table of operations each path fills. Formulas and orders of addition: h2q/kernels/twins.py.
#pragma once
#include <cstdint>

#include "encode.hpp"
#include "pages.hpp"
#include "plane.hpp"

namespace h2q {

struct AttentionView {
  const float *q, *k, *v;  // (B, T, H, width), (B, KV, capacity, width), (B, KV, capacity, value_width)
  const float* sinks;      // (H) or null
  float* out;              // (B, T, H, value_width)
  int batch, tokens, heads, kv_heads, capacity, width, value_width, start, window;
  float scale, softcap;
};

struct DenseView {
  const float* x;          // (tokens, width)
  const float* wide;       // (rows, width), or null and:
  const uint16_t* narrow;  // (rows, width) bfloat16
  float* out;              // (tokens, rows)
  int tokens, rows, width;
};

// A matrix rounded to bytes times rounded inputs.
constexpr int kRoundedTile = 8;  // tokens
struct RoundedView {
  const uint8_t* levels;  // (blocks of 16 rows, groups of 4 columns, 16, 4), kLevelOffset above their value
  const float* scales;    // (rows)
  const int8_t* x;        // (tiles, groups, kRoundedTile, 4); missing tokens are silent
  const float* scale;     // (tokens)
  const int32_t* sums;    // (tokens)
  float* out;             // (tokens, rows)
  int tokens, rows, groups;
};

constexpr int kCellTokens = 5;

struct Ops {
  const char* name;
  // One token each; x and out may be the same.
  void (*rotate)(const RotationView&, const float* x, float* out, bool inverse);
  // Returns false when a value is not finite.
  bool (*quantize)(const float* x, int width, int stride, int8_t* codes, float* scale, int32_t* sum);
  bool (*rotate_quantize)(const RotationView&, const float* x, int stride, int8_t* codes, float* scale, int32_t* sum);
  void (*rms_norm)(const float* x, const float* weight, float eps, int width, float* out);
  void (*swiglu)(const float* gate, const float* up, int64_t count, float* out);
  void (*rope)(const float* x, const float* cos, const float* sin, int heads, int width, float* out);
  // One query of one head; scores is scratch of start + tokens + 16 floats.
  void (*attend)(const AttentionView&, int batch, int head, int token, float* scores);
  // Rows [first, last) of the weights for all tokens.
  void (*dense)(const DenseView&, int first, int last);
  // Exact sums of a panel over groups of columns [first, last). Inputs come in cells of `cell` neighbouring groups: x is
  // (tile, cell, token, group within the cell, 4) from group `first` on, which begins a cell, its tiles tile_stride
  // bytes apart, sums (tile, token, 16 R). Tiles have 1, 2, 4, 6 or 8 tokens with cells of one group, which
  // fewer than kCellTokens tokens always have, and up to 16 with others.
  void (*panel_sums)(const PlaneView&, int panel, int first, int last, const int8_t* x, int tokens, int tiles,
                     int64_t tile_stride, int32_t* sums);
  // Rows of a panel in out (tokens, rows) for tokens [first, last), from sums (plane, tile tokens, 16 R).
  void (*finish)(const PlaneView* planes, int count, int panel, const int32_t* sums, int tile_tokens,
                 const ActivationView&, int first, int last, float* out);
  // Multiply-adds done in that many rounds of nothing else.
  int64_t (*dots)(int64_t rounds);
  ViterbiFn viterbi;
  void (*add_rms_norm)(const float* x, const float* delta, const float* weight, float eps, int width, float* total,
                       float* out);
  void (*geglu)(const float* gate, const float* up, int64_t count, float* out);
  void (*clamped_swiglu)(const float* gate, const float* up, int64_t count, float* out);
  // Returns false where logits make no distribution.
  bool (*softmax_sums)(const float* x, int count, float* best, int64_t* first, double* norm, double* product);
  // Pages (pages.inl): bool is false where a value is not finite; a state is state_size floats of one query.
  bool (*store_head)(const PagesView&, const float* k, const float* v, int page, int head, int offset);
  bool (*prepare_query)(const PagesView&, const float* q, float scale, int32_t* words, float* factor);
  void (*page_part)(const PagesView&, const QueriesView&, int from, int to, int index, int page, int next, int head,
                    float* states);
  void (*join_pages)(const PagesView&, const float* part, float* state);
  void (*finish_query)(const PagesView&, const float* state, const float* sink, float* out);
  // Blocks [first, last) of sixteen rows for all tokens.
  void (*rounded)(const RoundedView&, int first, int last);
  int cell = 1;
};

const Ops& ops_portable();
#if defined(__x86_64__)
const Ops& ops_amx();
const Ops& ops_avx512();
const Ops& ops_avx512vnni();
const Ops& ops_avx512bw();
const Ops& ops_avxvnni();
const Ops& ops_avx2();
#elif defined(__aarch64__)
const Ops& ops_neon();
const Ops& ops_neon_i8mm();
#endif

}  // namespace h2q
