// Plain C++: states walked symbol by symbol, sums in int32.

void decode_lines(const CodeTables& t, const uint8_t* codes, int line, int lines, uint8_t* out) {
  const int symbols = 8 / t.bits, mask = (1 << t.bits) - 1;
  for (int lane = 0; lane < kLineLanes; ++lane) {
    int state = 0;
    for (int back = least(line, 2); back > 0; --back)
      state = (state << 8 | codes[static_cast<int64_t>(line - back) * kLineLanes + lane]) & (kStates - 1);
    for (int i = 0; i < lines; ++i) {
      const int byte = codes[static_cast<int64_t>(line + i) * kLineLanes + lane];
      for (int q = 0; q < symbols; ++q) {
        state = (state << t.bits | (byte >> (8 - t.bits * (q + 1)) & mask)) & (kStates - 1);
        out[static_cast<int64_t>(i * symbols + q) * kLineLanes + lane] =
            static_cast<uint8_t>(t.state_levels[state] + kLevelOffset);
      }
    }
  }
}

void dot(const uint8_t* levels, int groups, int steps, const int8_t* x, int stride, int tokens, int32_t* sums) {
  for (int g = 0; g < groups; ++g)
    for (int t = 0; t < steps; ++t, levels += kLineLanes)
      for (int token = 0; token < tokens; ++token) {
        const int8_t* four = x + static_cast<int64_t>(token) * stride + 4 * g;
        int32_t* row = sums + (static_cast<int64_t>(token) * steps + t) * 16;
        for (int r = 0; r < 16; ++r)
          row[r] += levels[4 * r] * four[0] + levels[4 * r + 1] * four[1] + levels[4 * r + 2] * four[2] +
                    levels[4 * r + 3] * four[3];
      }
}

bool fused(const PlaneView&, const uint8_t*, const int8_t*, int32_t*) { return false; }
