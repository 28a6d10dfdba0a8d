// Weights rounded to bytes: whole numbers within +-63 above kLevelOffset, so that they are the same signed and unsigned.
// Some vectors of rows meet a tile of tokens, all their sums in registers.

constexpr int kRowVectors = kBudget >= 2 * kRoundedTile ? 2 : 1;

template <int kVectors>
struct RoundedTile {
  template <int... i>
  static H2Q_INLINE void step(const Bytes* levels, Sums* sum, const int8_t* x, std::integer_sequence<int, i...>) {
    ((sum[i] = dot(sum[i], levels[i % kVectors], broadcast(Token<i / kVectors>{x}))), ...);
  }
  template <int... v>
  static H2Q_INLINE void load_all(Bytes* levels, const uint8_t* const* at, int64_t byte, std::integer_sequence<int, v...>) {
    ((levels[v] = load_levels(at[v] + byte)), ...);
  }
  // Vectors from `vector` on, of all rows, for one tile.
  template <int... i>
  static inline void run(const RoundedView& w, int vector, int tile, int tiles, std::integer_sequence<int, i...> all) {
    constexpr int kRows = kWidth / 4, kPer = 16 / kRows;
    const uint8_t* at[kVectors];
    for (int v = 0; v < kVectors; ++v)
      at[v] = w.levels + (vector + v) / kPer * w.groups * int64_t{64} + (vector + v) % kPer * kWidth;
    const int8_t* x = w.x + int64_t{4} * kRoundedTile * w.groups * tile;
    Sums sum[] = {(static_cast<void>(i), no_sums())...};
    Bytes levels[kVectors];
    // Every tile brings in its share of the rows that come next, so that the first to need them does not wait.
    const int64_t share = int64_t{kVectors} * w.groups * kWidth / tiles;
    const uint8_t* ahead = at[kVectors - 1] + int64_t{64} * w.groups + tile * share;
    const uint8_t* enough = ahead + share;
    for (int g = 0; g < w.groups; ++g, x += 4 * kRoundedTile) {
      if (ahead < enough) __builtin_prefetch(ahead, 0, 2);
      ahead += 64;
      load_all(levels, at, int64_t{64} * g, std::make_integer_sequence<int, kVectors>{});
      step(levels, sum, x, all);
    }
    (put(w, (vector + i % kVectors) * kRows, tile * kRoundedTile + i / kVectors, sum[i]), ...);
  }
  static H2Q_INLINE void put(const RoundedView& w, int row, int token, Sums sum) {
    if (token >= w.tokens) return;
    alignas(64) int32_t part[kWidth / 4] = {};
    add_sums(part, sum);
    const int32_t bias = kLevelOffset * w.sums[token];
    float* out = w.out + static_cast<int64_t>(token) * w.rows + row;
    const int count = least(kWidth / 4, w.rows - row);
    for (int r = 0; r < count; ++r) out[r] = static_cast<float>(part[r] - bias) * w.scales[row + r] * w.scale[token];
  }
};

template <int kVectors>
inline void rounded_vectors(const RoundedView& w, int vector) {
  const int tiles = (w.tokens + kRoundedTile - 1) / kRoundedTile;
  for (int tile = 0; tile < tiles; ++tile)
    RoundedTile<kVectors>::run(w, vector, tile, tiles, std::make_integer_sequence<int, kVectors * kRoundedTile>{});
}

// Blocks [first, last) of sixteen rows.
void rounded(const RoundedView& w, int first, int last) {
  constexpr int kPer = 64 / kWidth;
  int vector = first * kPer;
  for (; vector + kRowVectors <= last * kPer; vector += kRowVectors) rounded_vectors<kRowVectors>(w, vector);
  for (; vector < last * kPer; ++vector) rounded_vectors<1>(w, vector);
}
