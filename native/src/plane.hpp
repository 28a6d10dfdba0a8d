// Where the weights of a plane lie (h2q/codec/layout.py has the words), and the tables its code is read with.
#pragma once
#include <cstdint>

// What several paths include must leave no copy of its own behind: the linker would keep one of them, compiled for the
// wrong processor.
#define H2Q_INLINE inline __attribute__((always_inline))

namespace h2q {

constexpr int kLineLanes = 64;
constexpr int kStates = 4096;
constexpr int kWindow = 12;
constexpr int kLevelOffset = 64;

// One code: `bits` per weight. Filled once from the constants of h2q.codec (code_tables.cpp).
struct CodeTables {
  int bits = 0;
  int8_t levels[32];                // by index
  int8_t state_levels[kStates];     // by state
  uint8_t columns[kWindow];         // the linear map
  alignas(64) uint8_t biased[64];   // levels + 64, the 32 entries twice
  uint64_t affine[8][3];            // [step in byte][this, previous, one before]: bit matrices for GF2P8AFFINEQB
  // [step][nibble, from the lowest of this byte up]: index contributions, the index's fifth bit in bit 7
  alignas(16) uint8_t nibble[8][6][16];
  // [bit of a nibble at which a window begins][nibble: its first with what it takes of its last, then those between]
  alignas(16) uint8_t windows[4][3][16];
};

// Not owned: codes uint8 (panels, lines, 64), scales bfloat16 (rows, ...).
struct PlaneView {
  const CodeTables* tables = nullptr;
  int rows = 0, cols = 0;
  int steps = 0;    // R: steps per group of four columns
  int symbols = 0;  // S: steps per byte
  int panels = 0, lines = 0, padded_cols = 0;
  const uint8_t* codes = nullptr;
  const uint16_t* scales = nullptr;

  H2Q_INLINE int panel_rows() const { return 16 * steps; }
  H2Q_INLINE int groups() const { return padded_cols / 4; }
  H2Q_INLINE const uint8_t* panel(int index) const { return codes + static_cast<int64_t>(index) * lines * kLineLanes; }
};

// Tables of a code; null when it was never set. Bits are 1 or 2.
const CodeTables* code_tables(int bits);
void set_code_tables(int bits, const uint8_t* columns, const int8_t* levels);

// Sizes that follow from bits, rows and cols; codes and scales are left null.
PlaneView plane_layout(int bits, int rows, int cols);

H2Q_INLINE float widen(uint16_t bfloat16) {
  const uint32_t bits = static_cast<uint32_t>(bfloat16) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

// Quantized inputs: codes int8 (tokens, stride), zero beyond the width.
struct ActivationView {
  const int8_t* codes = nullptr;
  const float* scale = nullptr;
  const int32_t* sums = nullptr;
  int tokens = 0, stride = 0;
};

}  // namespace h2q
