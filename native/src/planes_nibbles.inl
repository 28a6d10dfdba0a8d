// Paths without bit-matrix products: the index of a step is the exclusive or of one 16-entry look-up per nibble of its
// window; a level is one look-up in each half of the table, the wrong one answering zero (its index has bit 7 set).
// The including file brings Bytes, Sums and: load, table, look_up, low, high, flip, either, differ, add_sums, dot.

template <int kBits>
struct Decoder {
  static constexpr int kSymbols = 8 / kBits;
  const CodeTables& tables;
  Bytes few, many, part[6];  // nibbles of three bytes, the lowest of the newest first

  explicit Decoder(const CodeTables& t) : tables(t), few(table(level_table(t))), many(table(level_table(t) + 16)) {}
  H2Q_INLINE void read(const uint8_t* at) {
    const Bytes now = load(at), last = load(at - kLineLanes), before = load(at - 2 * kLineLanes);
    part[0] = low(now), part[1] = high(now);
    part[2] = low(last), part[3] = high(last);
    part[4] = low(before);
  }
  // What follows the line that was read or passed before.
  H2Q_INLINE void next(const uint8_t* at) {
    const Bytes now = load(at);
    part[4] = part[2], part[2] = part[0], part[3] = part[1];
    part[0] = low(now), part[1] = high(now);
  }
  template <int q, int n>
  H2Q_INLINE Bytes nibble() const {
    return look_up(table(tables.nibble[q][n]), part[n]);
  }
  template <int q>
  H2Q_INLINE Bytes level() const {
    constexpr int kLowest = 8 - kBits * (q + 1), kFirst = kLowest / 4, kLast = (kLowest + kWindow - 1) / 4;
    static_assert(kLast <= 4 && kLast - kFirst >= 2);
    Bytes index = differ(differ(nibble<q, kFirst>(), nibble<q, kFirst + 1>()), nibble<q, kFirst + 2>());
    if constexpr (kLast - kFirst == 3) index = differ(index, nibble<q, kFirst + 3>());
    return either(look_up(few, index), look_up(many, flip(index)));
  }
};
