// Which path runs: found by CPUID and proven by executing one instruction of each group under a guard.
#pragma once
#include <string>
#include <vector>

#include "ops.hpp"

namespace h2q {

struct Feature {
  std::string name;
  bool found, executed;
};

// Whether a function runs to its end on this processor; an illegal instruction in it is survived.
bool executes(void (*trial)());
const std::vector<Feature>& features();
// Paths every instruction of which ran here; best first.
const std::vector<const Ops*>& usable_paths();
const Ops& active();
void use(const Ops&);
// Throws std::invalid_argument when the path is not usable here.
void use(const std::string& name);

// Where a row is, which may be in `room`, of the rows' width; several are asked for at the same time.
struct RowSource {
  const void* object;
  const float* (*row)(const void* object, int64_t index, float* room);
  int64_t cost;  // of making one, in elementary steps
};
template <typename Make>
RowSource rows_of(const Make& make, int64_t cost) {
  return {&make, [](const void* object, int64_t index, float* room) -> const float* {
            return (*static_cast<const Make*>(object))(index, room);
          }, cost};
}

// Whole operations on the active path and the pool (operations.cpp).
void rotate_tokens(const RotationView&, const float* x, float* out, int tokens, bool inverse);
bool quantize_tokens(const float* x, int tokens, int width, int stride, int8_t* codes, float* scale, int32_t* sums);
bool rotate_quantize_tokens(const RotationView&, const float* x, int tokens, int stride, int8_t* codes, float* scale,
                            int32_t* sums);
// The same of rows that are made when they are wanted.
bool rotate_quantize_rows(const RotationView&, const RowSource&, int tokens, int stride, int8_t* codes, float* scale,
                          int32_t* sums);
void dense(const DenseView&);
void matmul(const PlaneView* planes, int count, const ActivationView&, float* out);
// view.x is taken from codes int8 (tokens, stride), zero from the width on.
void matmul_rounded(RoundedView view, const int8_t* codes, int stride);
void gather(const PlaneView* planes, int count, const int64_t* ids, int tokens, float* out);
void decode(const PlaneView&, int8_t* out);
void attention(const AttentionView&);
void normalise(const float* x, const float* weight, float eps, int tokens, int width, float* out);
void add_and_normalise(const float* x, const float* delta, const float* weight, float eps, int tokens, int width,
                       float* total, float* out);
void add(const float* x, const float* y, int64_t count, float* out);
void gate(const float* gate, const float* up, int64_t count, float* out);
void gate_gaussian(const float* gate, const float* up, int64_t count, float* out);
void gate_clamped(const float* gate, const float* up, int64_t count, float* out);
// See softmax_top in h2q/kernels/twins.py; false where logits make no distribution.
bool softmax_top(const float* logits, int tokens, int count, int k, float* best, double* norm, double* product,
                 int64_t* ids);
// Of equal slots the last row stays; false where a value is not finite (paged.cpp).
bool store_rows(const PagesView&, const float* k, const float* v, const int64_t* slots, int rows);
// Tables, streams and seen are as they must be; false where a query is not finite.
bool attend_rows(const PagedView&);
void positions(const float* x, const float* cos, const float* sin, int tokens, int heads, int width, float* out);

}  // namespace h2q
