// NEON with dot products: a quarter of a line is one register; levels stay signed. The index of a step is the exclusive
// or of three 16-entry look-ups, one for each nibble of its window, where a window that begins inside a nibble has the
// rest of its first and of its last one joined; a level is one look-up in a table of two registers.

constexpr int kWidth = 16;
constexpr int kBudget = 16;
constexpr int kBias = 0;
typedef uint8x16_t Bytes;
typedef int32x4_t Sums;
typedef int8x16_t Four;

template <int kBits>
struct Decoder {
  static constexpr int kSymbols = 8 / kBits, kStarts = 4 / kBits;
  struct AtOnce {};  // no registers are left for a line decoded ahead
  Bytes windows[kStarts][3], part[5];  // part: nibbles, the lowest of the newest byte first
  uint8x16x2_t levels;

  explicit H2Q_INLINE Decoder(const CodeTables& t) {
    for (int i = 0; i < kStarts; ++i)
      for (int n = 0; n < 3; ++n) windows[i][n] = vld1q_u8(t.windows[i * kBits][n]);
    for (int i = 0; i < 2; ++i) levels.val[i] = vreinterpretq_u8_s8(vld1q_s8(t.levels + 16 * i));
  }
  H2Q_INLINE void read(const uint8_t* at) {
    take<0>(vld1q_u8(at)), take<2>(vld1q_u8(at - kLineLanes));
    part[4] = vandq_u8(vld1q_u8(at - 2 * kLineLanes), vdupq_n_u8(15));
  }
  // What follows the line that was read or passed before.
  H2Q_INLINE void next(const uint8_t* at) {
    Bytes now = vld1q_u8(at);
    asm volatile("" : "+w"(now));  // keeps compilers from decoding many lines at a time, which takes more registers
    part[4] = part[2], part[2] = part[0], part[3] = part[1];
    take<0>(now);
  }
  template <int q>
  H2Q_INLINE Bytes level() const {
    constexpr int kLowest = 8 - kBits * (q + 1), kFirst = kLowest / 4, kFrom = kLowest % 4;
    Bytes ends = part[kFirst];
    if constexpr (kFrom > 0) ends = joined(ends, part[kFirst + 3], vdupq_n_u8(15 << kFrom & 15));
    const Bytes* shares = windows[kFrom / kBits];
    const Bytes inner = veorq_u8(vqtbl1q_u8(shares[1], part[kFirst + 1]), vqtbl1q_u8(shares[2], part[kFirst + 2]));
    return vqtbl2q_u8(levels, veorq_u8(vqtbl1q_u8(shares[0], ends), inner));
  }

 private:
  template <int n>
  H2Q_INLINE void take(Bytes v) {
    part[n] = vandq_u8(v, vdupq_n_u8(15)), part[n + 1] = vshrq_n_u8(v, 4);
  }
  // In words of its own: Clang makes two masks and an OR of it.
  static H2Q_INLINE Bytes joined(Bytes first, Bytes last, Bytes which) {
    asm("bit %0.16b, %1.16b, %2.16b" : "+w"(last) : "w"(first), "w"(which));
    return last;
  }
};

H2Q_INLINE Sums no_sums() { return vdupq_n_s32(0); }
H2Q_INLINE void add_sums(int32_t* to, Sums v) { vst1q_s32(to, vaddq_s32(vld1q_s32(to), v)); }
H2Q_INLINE Bytes load_levels(const uint8_t* p) { return vld1q_u8(p); }
H2Q_INLINE void store_levels(uint8_t* p, Bytes v) { vst1q_u8(p, v); }
H2Q_INLINE Four broadcast(const int8_t* four) { return vreinterpretq_s8_s32(vdupq_n_s32(four_bytes(four))); }
// Tokens come in pairs, so that a product takes its four out of a register that serves two.
template <int k>
H2Q_INLINE Four broadcast(Token<k> token) {
  const int8x8_t pair = vld1_s8(token.fours + k / 2 * 8);
  return vreinterpretq_s8_s32(vdupq_lane_s32(vreinterpret_s32_s8(pair), k % 2));
}
H2Q_INLINE Sums dot(Sums sum, Bytes levels, Four x) { return vdotq_s32(sum, vreinterpretq_s8_u8(levels), x); }
