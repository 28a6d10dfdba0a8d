// Coding a matrix into one plane: Viterbi along each lane, LDLQ feedback from column to column.
// The NumPy twin is h2q/codec/encode.py; both give the same symbols.
#pragma once
#include <cstdint>
#include <functional>

#include "plane.hpp"

namespace h2q {

// What a Viterbi step adds: squared distances in level units, less the square of what the target lies beyond every
// level, times a factor, capped, rounded. Only differences decide, and that part is common to all levels: without it the
// cap would make all levels alike to an outlier. Targets are brought within +-kFarthest before, NaN to +kFarthest. A cost
// is kept in 16 bits beside the `bits` of a choice.
constexpr float kOutermost = 63.0f, kFarthest = 1024.0f;
struct CostRule {
  float factor;
  int cap;
};
constexpr CostRule cost_rule(int bits) { return bits == 2 ? CostRule{0.25f, 1600} : CostRule{0.15625f, 2000}; }

// Any state is kWindow / bits steps from any other, so costs never lie further apart than that many caps, and a start
// that costs one more than that is never worth it. Costs are brought back to zero before they outgrow their bits, and
// capped at that penalty until every state can be reached from the true start.
constexpr int start_penalty(int bits) { return kWindow / bits * cost_rule(bits).cap + 1; }
constexpr int renormalise_every(int bits) {
  return ((1 << (16 - bits)) - 1 - start_penalty(bits)) / cost_rule(bits).cap;
}

constexpr int kFewestLanes = 8;
constexpr int kSpareCosts = 16;  // lines of costs that are left out
constexpr int kRevised = 32;  // steps that are traced back whenever a search tells its best path so far
constexpr int kChoiceWords = 128;  // 16-bit words that hold one lane's choices at one step

// `lanes` trellises side by side; arrays are (..., lanes) and aligned to 64 bytes.
struct SearchJob {
  int lanes, steps, keep;  // the first `keep` steps of the best path are wanted
  const float* targets;    // (steps, lanes), level units
  const uint16_t* start;   // state of each lane before the first step; the end is free
  int16_t* costs;          // scratch: (2, (4096 >> bits) + kSpareCosts, lanes)
  int16_t* choices;        // scratch: (steps, kChoiceWords, lanes)
  uint16_t* path;          // out: states (keep, lanes); (steps, lanes) with a listener
  // Every `group` steps the listener hears the best path so far, of which the last kRevised steps may be news, and may
  // change the targets to come; zero for no listener.
  int group;
  void (*listener)(void* context, int done);
  void* context;
};

// Columns [from, to) of every row make good what committed columns [begin, end) did wrong: one committed column after
// the other, product and sum rounded apart.
struct CorrectionJob {
  int rows, cols, width, begin, end, from, to;
  const float* feedback;  // (cols, cols)
  const float* errors;    // (rows, width)
  float* corrected;       // (rows, width)
};

struct EncodeKernels {
  int lanes;  // the most trellises one search takes; every halving down to kFewestLanes works too
  void (*search)(const CodeTables&, const SearchJob&);
  void (*correct)(const CorrectionJob&);
};
using ViterbiFn = const EncodeKernels& (*)();

enum class EncodeResult { done, cancelled, not_finite };

// target: float32 (rows, cols) in level units. feedback: float32 (cols, cols), strictly upper, or null.
// commit, lookahead: columns, at sixteen steps per group. codes: shape of the plane, all bytes are written.
// progress hears the share done between blocks, on the calling thread; false stops.
EncodeResult encode_plane(int bits, int rows, int cols, const float* target, const float* feedback, int commit,
                          int lookahead, uint8_t* codes, const std::function<bool(double)>& progress);

}  // namespace h2q
