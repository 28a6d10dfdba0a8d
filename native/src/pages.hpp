// Pages of keys and values (h2q/codec/pages.py has the layout), and what attention over them is asked.
// Formulas: h2q/kernels/paged_twins.py.
#pragma once
#include <cstdint>

namespace h2q {

struct RotationView {
  const float* signs;
  const float* mix;
  int width, block, mixed;  // mixed: size of the odd factor, 1 for none
};

constexpr int kPage = 64;
constexpr int kStateHead = 32;  // floats before the outputs of a state: 16 lanes of the norm, the best score, 15 unused

enum class PageKind { k8v8, k8v4, f16 };

struct PagesView {
  PageKind kind;
  int pages, kv_heads, key_dim, value_dim;
  void *keys, *values;
  float *key_scales, *value_scales;    // null for f16
  RotationView key_turn, value_turn;

  bool rounded() const { return kind != PageKind::f16; }
  int pairs() const { return (key_dim + 1) / 2; }
  int width() const { return (value_dim + 15) / 16 * 16; }
  int query_size() const { return rounded() ? pairs() : key_dim; }  // words of four bytes
  int state_size() const { return kStateHead + width(); }           // floats
  int64_t key_bytes() const { return int64_t{2} * kPage * (rounded() ? pairs() : key_dim); }
  int64_t value_bytes() const { return int64_t{kind == PageKind::f16 ? 128 : kind == PageKind::k8v8 ? 64 : 32} * width(); }
  int64_t block(int page, int head) const { return int64_t{page} * kv_heads + head; }
  uint8_t* keys_of(int page, int head) const { return static_cast<uint8_t*>(keys) + block(page, head) * key_bytes(); }
  uint8_t* values_of(int page, int head) const { return static_cast<uint8_t*>(values) + block(page, head) * value_bytes(); }
  float* key_scales_of(int page, int head) const { return key_scales + block(page, head) * kPage; }
  float* value_scales_of(int page, int head) const { return value_scales + block(page, head) * kPage; }
};

// Queries of one key head, all of one stream, ready for products.
struct QueriesView {
  const int32_t* words;    // (count, query_size): pairs of int16, or floats
  const float* factors;    // what sums are multiplied by
  const int *first, *end;  // logical positions [first, end) that each sees
  int count;
  float softcap;
};

struct PagedView {
  PagesView pages;
  const float* q;  // (rows, heads, key_dim)
  const int32_t *tables, *streams, *seen;
  const float* sinks;  // (heads) or null
  float* out;          // (rows, heads, value_dim)
  int rows, heads, most_pages, window;
  float scale, softcap;
};

}  // namespace h2q
