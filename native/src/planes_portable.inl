// Plain C++: a state is cut out of three bytes and looked up.

constexpr int kWidth = 16;
constexpr int kBudget = 4;
constexpr int kBias = 0;
struct Bytes {
  int8_t at[kWidth];
};
typedef const int8_t* Four;
struct Sums {
  int32_t at[kWidth / 4];
};

template <int kBits>
struct Decoder {
  static constexpr int kSymbols = 8 / kBits;
  const int8_t* levels;
  uint32_t stream[kWidth];

  explicit Decoder(const CodeTables& t) : levels(t.state_levels) {}
  H2Q_INLINE void read(const uint8_t* at) {
    for (int i = 0; i < kWidth; ++i)
      stream[i] = static_cast<uint32_t>(at[i - 2 * kLineLanes] << 16 | at[i - kLineLanes] << 8 | at[i]);
  }
  H2Q_INLINE void next(const uint8_t* at) { read(at); }
  template <int q>
  H2Q_INLINE Bytes level() const {
    Bytes out;
    for (int i = 0; i < kWidth; ++i) out.at[i] = levels[stream[i] >> (8 - kBits * (q + 1)) & (kStates - 1)];
    return out;
  }
};

H2Q_INLINE Sums no_sums() { return {}; }
H2Q_INLINE void add_sums(int32_t* to, Sums v) {
  for (int i = 0; i < kWidth / 4; ++i) to[i] += v.at[i];
}
H2Q_INLINE Bytes load_levels(const uint8_t* p) {
  Bytes out;
  std::memcpy(out.at, p, kWidth);
  return out;
}
H2Q_INLINE void store_levels(uint8_t* p, Bytes v) { std::memcpy(p, v.at, kWidth); }
H2Q_INLINE Four broadcast(const int8_t* four) { return four; }
H2Q_INLINE Sums dot(Sums sum, Bytes levels, Four x) {
  for (int i = 0; i < kWidth / 4; ++i) {
    const int8_t* w = levels.at + 4 * i;
    sum.at[i] += w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
  }
  return sum;
}
