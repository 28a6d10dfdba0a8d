// Products of many tokens by SMMLA: two rows of eight columns times two tokens of as many inputs, twice what SDOT does.
// Levels of a step in two neighbouring groups are zipped into pairs of rows, inputs of two tokens likewise; a sum is a
// square of two rows and two tokens.

#if defined(__clang__)
#define H2Q_MATRICES __attribute__((target("i8mm")))
#else
#define H2Q_MATRICES __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))
#endif

constexpr int kPairTokens = 8, kPairSteps = 2, kTokenPairs = kPairTokens / 2;

// Two steps of a quarter of the lanes, all turns, one tile: levels of a step lie step_stride bytes after the one before.
H2Q_MATRICES inline void multiply_squares(const Turns& w, const uint8_t* levels, int64_t step_stride, const int8_t* x,
                                          int32_t* rows, int height) {
  constexpr int kInputs = 4 * kPairTokens;
  int32x4_t sum[kPairSteps][2][kTokenPairs] = {};
  for (int turn = 0; turn < w.count; turn += 2, levels += 2 * kWidth, x += 2 * kInputs) {
    const bool both = turn + 1 < w.count;  // else the second group is silent
    int8x16_t pairs[kTokenPairs];
    for (int half = 0; half < 2; ++half) {
      const int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(x + 16 * half));
      const int32x4_t b = both ? vreinterpretq_s32_s8(vld1q_s8(x + kInputs + 16 * half)) : vdupq_n_s32(0);
      pairs[2 * half] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
      pairs[2 * half + 1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
    }
    for (int step = 0; step < kPairSteps; ++step) {
      const uint8_t* at = levels + step * step_stride;
      const int32x4_t a = vreinterpretq_s32_u8(vld1q_u8(at));
      const int32x4_t b = both ? vreinterpretq_s32_u8(vld1q_u8(at + kWidth)) : vdupq_n_s32(0);
      const int8x16_t upper = vreinterpretq_s8_s32(vzip1q_s32(a, b)), lower = vreinterpretq_s8_s32(vzip2q_s32(a, b));
      for (int k = 0; k < kTokenPairs; ++k) {
        sum[step][0][k] = vmmlaq_s32(sum[step][0][k], upper, pairs[k]);
        sum[step][1][k] = vmmlaq_s32(sum[step][1][k], lower, pairs[k]);
      }
    }
  }
  for (int step = 0; step < kPairSteps; ++step)
    for (int k = 0; k < kTokenPairs; ++k) {
      int32_t* to = rows + 16 * step + 2 * k * height;
      add_sums(to, vuzp1q_s32(sum[step][0][k], sum[step][1][k]));
      add_sums(to + height, vuzp2q_s32(sum[step][0][k], sum[step][1][k]));
    }
}

// All tiles of eight tokens over decoded levels, where a turn is one group of columns.
template <int kBits>
void multiply_pairs(const Turns& w) {
  const int64_t between = Levels<kBits>::between(w);
  const int height = 16 * w.steps;
  for (int lane = 0; lane < kLineLanes; lane += kWidth)
    for (int step = 0; step < w.steps; step += kPairSteps)
      for (int tile = 0; tile < w.tiles; ++tile)
        multiply_squares(w, Levels<kBits>::start(w, 0, lane) + step * between, between, w.x + tile * w.tile_stride,
                         w.sums + static_cast<int64_t>(tile) * kPairTokens * height + 16 * step + lane / 4, height);
}
