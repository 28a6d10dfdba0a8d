// Expands the twelve columns of the linear map into what each instruction set looks up.
#include "plane.hpp"

#include <algorithm>
#include <stdexcept>

namespace h2q {
namespace {

CodeTables tables[3];  // by bits; entry 0 is not used

// Bits of a stream of three bytes, newest lowest: state bit b at step q lies at b + 8 - bits * (q + 1).
int position(int bits, int step, int state_bit) { return state_bit + 8 - bits * (step + 1); }

uint8_t index_of(const CodeTables& t, int state) {
  int index = 0;
  for (int b = 0; b < kWindow; ++b)
    if (state >> b & 1) index ^= t.columns[b];
  return static_cast<uint8_t>(index);
}

uint64_t affine_matrix(const CodeTables& t, int step, int byte) {
  uint64_t matrix = 0;
  for (int out = 0; out < 5; ++out) {
    uint64_t row = 0;
    for (int b = 0; b < kWindow; ++b) {
      const int at = position(t.bits, step, b) - 8 * byte;
      if (at >= 0 && at < 8 && (t.columns[b] >> out & 1)) row |= uint64_t{1} << at;
    }
    matrix |= row << (8 * (7 - out));  // the instruction keeps the row of bit i in byte 7 - i
  }
  return matrix;
}

uint8_t nibble_entry(const CodeTables& t, int step, int nibble, int value) {
  int index = 0;
  for (int b = 0; b < kWindow; ++b) {
    const int at = position(t.bits, step, b) - 4 * nibble;
    if (at >= 0 && at < 4 && (value >> at & 1)) index ^= t.columns[b];
  }
  return static_cast<uint8_t>((index & 15) | index >> 4 << 7);
}

uint8_t window_entry(const CodeTables& t, int from, int nibble, int value) {
  int index = 0;
  for (int i = 0; i < 4; ++i)
    if (value >> i & 1) index ^= t.columns[(4 * nibble + i - from + kWindow) % kWindow];
  return static_cast<uint8_t>(index);
}

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

const CodeTables* code_tables(int bits) {
  if (bits < 1 || bits > 2 || tables[bits].bits == 0) return nullptr;
  return &tables[bits];
}

void set_code_tables(int bits, const uint8_t* columns, const int8_t* levels) {
  if (bits < 1 || bits > 2) throw std::invalid_argument("a plane has 1 or 2 bits per weight");
  CodeTables& t = tables[bits];
  t.bits = bits;
  std::copy(columns, columns + kWindow, t.columns);
  std::copy(levels, levels + 32, t.levels);
  for (int s = 0; s < kStates; ++s) t.state_levels[s] = levels[index_of(t, s)];
  for (int i = 0; i < 64; ++i) t.biased[i] = static_cast<uint8_t>(levels[i % 32] + kLevelOffset);
  for (int step = 0; step < 8 / bits; ++step) {
    for (int byte = 0; byte < 3; ++byte) t.affine[step][byte] = affine_matrix(t, step, byte);
    for (int nibble = 0; nibble < 6; ++nibble)
      for (int value = 0; value < 16; ++value)
        t.nibble[step][nibble][value] = nibble_entry(t, step, nibble, value);
  }
  for (int from = 0; from < 4; ++from)
    for (int nibble = 0; nibble < 3; ++nibble)
      for (int value = 0; value < 16; ++value)
        t.windows[from][nibble][value] = window_entry(t, from, nibble, value);
}

PlaneView plane_layout(int bits, int rows, int cols) {
  PlaneView p;
  p.tables = code_tables(bits);
  if (!p.tables || rows < 1 || cols < 1) throw std::invalid_argument("no such plane");
  p.rows = rows;
  p.cols = cols;
  const int limit = std::max(round_up(rows, 16), rows + rows / 32);
  p.steps = 16;
  while (p.steps > 1 && round_up(rows, 16 * p.steps) > limit) p.steps /= 2;
  p.symbols = 8 / bits;
  p.panels = (rows + 16 * p.steps - 1) / (16 * p.steps);
  p.padded_cols = round_up(cols, 4 * std::max(1, p.symbols / p.steps));
  p.lines = p.padded_cols / 4 * p.steps / p.symbols;
  return p;
}

}  // namespace h2q
