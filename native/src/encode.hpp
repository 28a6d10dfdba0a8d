// Coding a matrix into one plane: Viterbi along each lane, LDLQ feedback from column to column.
// The NumPy twin is h2q/codec/encode.py; both give the same symbols.
#pragma once
#include <cstdint>
#include <functional>

namespace h2q {

struct CodeTables;

// What a Viterbi step adds: squared distances in level units times a factor, capped, rounded to int16.
// The caps keep every cost below 2^15: a state is at most (12 / bits) steps from any other, each at most `cap`, the
// start adds a penalty of as much again, and costs are brought back to zero every kRenormalise steps.
struct CostRule {
  float factor;
  float cap;
};
constexpr CostRule cost_rule(int bits) { return bits == 2 ? CostRule{0.5f, 2700.0f} : CostRule{0.15625f, 1400.0f}; }
constexpr int kRenormalise = 4;

struct ViterbiScratch {
  alignas(64) int16_t costs[2][4096 + 96];      // the odd length keeps the two arrays off the same cache sets
  alignas(64) int16_t best[2048 + 32];
  alignas(64) int16_t distances[32][32];        // the 32 distances, permuted for each base index
  uint8_t* arguments = nullptr;                 // winning predecessor per step and group of successors
};

// x: `steps` targets in level units. From start_state, free end; the first `keep` states of the best path.
using ViterbiFn = void (*)(const CodeTables&, ViterbiScratch&, const float* x, int steps, int start_state, int keep,
                           uint16_t* states);

enum class EncodeResult { done, cancelled, not_finite };

// target: float32 (rows, cols) in level units. feedback: float32 (cols, cols), strictly upper, or null.
// commit, lookahead: columns, at sixteen steps per group. codes: zeroed, shape of the plane.
// progress hears the share done between blocks, on the calling thread; false stops.
EncodeResult encode_plane(int bits, int rows, int cols, const float* target, const float* feedback, int commit,
                          int lookahead, uint8_t* codes, const std::function<bool(double)>& progress);

}  // namespace h2q
