// Integer sums of one panel over some of its columns, for tiles of tokens: decode in registers, multiply at once.
// A turn is the least number of whole lines that hold whole groups of columns. A strip takes one line of every turn and
// some of its steps, so that all their sums fit in registers, for one tile after the other; each path brings Decoder
// and dot.

struct Turns {
  const CodeTables* tables;
  const uint8_t* codes;  // first line of the first turn; three lines before it can be read
  const int8_t* x;       // groups of columns, (group, token, 4)
  int count;             // turns
  int steps;             // of a group: R
  int lines, groups;     // of a turn
  int ahead;             // bytes from a line to what will be wanted when these turns are done
  int tiles;             // of tokens
  int64_t tile_stride;   // from the inputs of a tile to those of the next
  int32_t* sums;         // (tile, token, 16 R)
};

// The codes of one line of every turn, decoded as they are read.
template <int kBits>
struct Codes : Decoder<kBits> {
  const int64_t stride, ahead;

  explicit H2Q_INLINE Codes(const Turns& w)
      : Decoder<kBits>(*w.tables), stride(int64_t{kLineLanes} * w.lines), ahead(w.ahead) {}
  static H2Q_INLINE const uint8_t* start(const Turns& w, int line, int lane) {
    return w.codes + line * kLineLanes + lane;
  }
  H2Q_INLINE void prefetch(const uint8_t* at) const { __builtin_prefetch(at + ahead, 0, 2); }
};

// Levels that were decoded before: (part of a line, step of a turn, turn, lane of the part), so that every strip reads
// on, however large a turn is. An odd number of turns between steps keeps these off each other's cache sets.
template <int kBits>
struct Levels {
  static constexpr int kSymbols = 8 / kBits, stride = kWidth;
  const int64_t step_stride;
  const uint8_t* at = nullptr;

  explicit H2Q_INLINE Levels(const Turns& w) : step_stride(between(w)) {}
  static H2Q_INLINE int64_t between(const Turns& w) { return int64_t{kWidth} * (w.count | 1); }
  static H2Q_INLINE uint8_t* place(const Turns& w, uint8_t* levels, int line, int lane) {
    return levels + (lane / kWidth * w.lines + line) * kSymbols * between(w);
  }
  static H2Q_INLINE const uint8_t* start(const Turns& w, int line, int lane) {
    return place(w, const_cast<uint8_t*>(w.codes), line, lane);
  }
  H2Q_INLINE void prefetch(const uint8_t*) const {}
  H2Q_INLINE void read(const uint8_t* levels) { at = levels; }
  template <int q>
  H2Q_INLINE Bytes level() const {
    return load_levels(at + q * step_stride);
  }
};

// Indices are template arguments throughout, so that reader and sums are registers and never an array in memory.
template <typename Reader, int kTokens, int kFirst>
struct Strip {
  template <int k, int... q>
  static H2Q_INLINE void token(const Bytes* levels, Sums* sum, Token<k> four, std::integer_sequence<int, q...>) {
    const Four x = broadcast(four);
    ((sum[q * kTokens + k] = dot(sum[q * kTokens + k], levels[q], x)), ...);
  }
  template <int... q>
  static H2Q_INLINE void decode(const Reader& reader, Bytes* levels, std::integer_sequence<int, q...>) {
    ((levels[q] = reader.template level<kFirst + q>()), ...);
  }
  template <int... q, int... k>
  static H2Q_INLINE void multiply(const Bytes* levels, Sums* sum, const int8_t* fours,
                                  std::integer_sequence<int, q...> all, std::integer_sequence<int, k...>) {
    (token<k>(levels, sum, {fours}, all), ...);
  }
  template <int q, int... k>
  static H2Q_INLINE void put(int32_t* rows, int height, const Sums* sum, std::integer_sequence<int, k...>) {
    (add_sums(rows + k * height, sum[q * kTokens + k]), ...);
  }
  // All steps q belong to one group.
  template <int... q, int... cell>
  static H2Q_INLINE void run(const Turns& w, int line, int lane, std::integer_sequence<int, q...> all,
                             std::integer_sequence<int, cell...>) {
    constexpr auto kEvery = std::make_integer_sequence<int, kTokens>{};
    const int first = line * Reader::kSymbols + kFirst;  // step within the turn
    const int x_stride = w.groups * 4 * kTokens, height = 16 * w.steps;
    Reader reader(w);
    for (int tile = 0; tile < w.tiles; ++tile) {
      const uint8_t* codes = Reader::start(w, line, lane);
      const int8_t* x = w.x + tile * w.tile_stride + first / w.steps * 4 * kTokens;
      int32_t* rows = w.sums + static_cast<int64_t>(tile) * kTokens * height + lane / 4;
      Sums sum[] = {(static_cast<void>(cell), no_sums())...};
      Bytes now[sizeof...(q)];
      if constexpr (requires { typename Reader::AtOnce; }) {
        for (int left = w.count; left > 0; --left, codes += reader.stride, x += x_stride) {
          reader.read(codes);
          if constexpr (kFirst == 0) reader.prefetch(codes);
          decode(reader, now, all);
          multiply(now, sum, x, all, kEvery);
        }
      } else {
        Bytes next[sizeof...(q)];  // decoded while the line before is multiplied
        reader.read(codes);
        decode(reader, now, all);
        for (int left = w.count; left > 1; --left, x += x_stride) {
          codes += reader.stride;
          reader.read(codes);
          if constexpr (kFirst == 0) reader.prefetch(codes);
          decode(reader, next, all);
          multiply(now, sum, x, all, kEvery);
          ((now[q] = next[q]), ...);
        }
        multiply(now, sum, x, all, kEvery);
      }
      (put<q>(rows + (first + q) % w.steps * 16, height, sum, kEvery), ...);
    }
  }
};

template <typename Reader, int kTokens, int kCount, int... block>
inline void strips(const Turns& w, std::integer_sequence<int, block...>) {
  for (int lane = 0; lane < kLineLanes; lane += kWidth)
    for (int line = 0; line < w.lines; ++line)
      (Strip<Reader, kTokens, block * kCount>::run(w, line, lane, std::make_integer_sequence<int, kCount>{},
                                                   std::make_integer_sequence<int, kCount * kTokens>{}),
       ...);
}

constexpr int strip_steps(int symbols, int tokens) {
  const int fit = kBudget / tokens;
  return fit >= symbols ? symbols : fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

template <typename Reader, int kTokens>
void tile(const Turns& w) {
  constexpr int kSymbols = Reader::kSymbols, kCount = strip_steps(kSymbols, kTokens);
  if (w.steps >= kSymbols) strips<Reader, kTokens, kCount>(w, std::make_integer_sequence<int, kSymbols / kCount>{});
  else strips<Reader, kTokens, 1>(w, std::make_integer_sequence<int, kSymbols>{});
}

// One token, whole turns: memory is read once, in its order, and every sum of the panel stays in a register.
template <int kBits, int kSteps>
struct Turn {
  static constexpr int kSymbols = 8 / kBits;
  static constexpr int kLines = kSteps > kSymbols ? kSteps / kSymbols : 1;
  static constexpr int kGroups = kSymbols > kSteps ? kSymbols / kSteps : 1;

  template <int kAt>
  static H2Q_INLINE void step(const Decoder<kBits>& decoder, Sums* sum, const int8_t* x) {
    sum[kAt % kSteps] =
        dot(sum[kAt % kSteps], decoder.template level<kAt % kSymbols>(), broadcast(x + kAt / kSteps * 4));
  }
  template <int kLine, int... q>
  static H2Q_INLINE void line(Decoder<kBits>& decoder, Sums* sum, const uint8_t* codes, const int8_t* x,
                              std::integer_sequence<int, q...>) {
    decoder.next(codes + kLine * kLineLanes);
    __builtin_prefetch(codes + kLine * kLineLanes + 4096);
    (step<kLine * kSymbols + q>(decoder, sum, x), ...);
  }
  template <int... l, int... t>
  static H2Q_INLINE void run(const Turns& w, int lane, std::integer_sequence<int, l...>,
                             std::integer_sequence<int, t...>) {
    const uint8_t* codes = w.codes + lane;
    const int8_t* x = w.x;
    Decoder<kBits> decoder(*w.tables);
    decoder.read(codes - kLineLanes);
    Sums sum[] = {(static_cast<void>(t), no_sums())...};
    for (int turn = w.count; turn > 0; --turn, codes += kLines * kLineLanes, x += 4 * kGroups)
      (line<l>(decoder, sum, codes, x, std::make_integer_sequence<int, kSymbols>{}), ...);
    (add_sums(w.sums + 16 * t + lane / 4, sum[t]), ...);
  }
};

template <int kBits, int kSteps>
void whole_turns(const Turns& w) {
  using Form = Turn<kBits, kSteps>;
  for (int lane = 0; lane < kLineLanes; lane += kWidth)
    Form::run(w, lane, std::make_integer_sequence<int, Form::kLines>{}, std::make_integer_sequence<int, kSteps>{});
}

template <int kBits>
void one_token(const Turns& w) {
  switch (w.steps) {
    case 16: return whole_turns<kBits, 16>(w);
    case 8: return whole_turns<kBits, 8>(w);
    case 4: return whole_turns<kBits, 4>(w);
    case 2: return whole_turns<kBits, 2>(w);
    default: return whole_turns<kBits, 1>(w);
  }
}

template <template <int> typename Reader, int kBits>
void run_turns(const Turns& w, int tokens) {
  switch (tokens) {
    case 1: return one_token<kBits>(w);
    case 2: return tile<Reader<kBits>, 2>(w);
    case 4: return tile<Reader<kBits>, 4>(w);
    case 6: return tile<Reader<kBits>, 6>(w);
    default: return tile<Reader<kBits>, 8>(w);
  }
}

template <int kBits, int... q>
H2Q_INLINE void write_levels(const Decoder<kBits>& decoder, uint8_t* out, int64_t step_stride,
                             std::integer_sequence<int, q...>) {
  (store_levels(out + q * step_stride, decoder.template level<q>()), ...);
}

template <int kBits>
void decode_lines(const Turns& w, uint8_t* levels) {
  for (int lane = 0; lane < kLineLanes; lane += kWidth) {
    Decoder<kBits> decoder(*w.tables);
    const uint8_t* codes = w.codes + lane;
    for (int turn = 0; turn < w.count; ++turn)
      for (int line = 0; line < w.lines; ++line, codes += kLineLanes) {
        decoder.read(codes);
        write_levels(decoder, Levels<kBits>::place(w, levels, line, lane) + int64_t{kWidth} * turn,
                     Levels<kBits>::between(w), std::make_integer_sequence<int, 8 / kBits>{});
      }
  }
}

constexpr int kStretchBytes = 14 * 1024;  // of codes and inputs that strips share while they lie in the first cache
constexpr int kLevelBytes = 128 * 1024;   // of levels that tiles share while they lie in the second
constexpr int kWorthDecoding = 3;         // tiles from which on levels are written down

#if H2Q_I8MM
template <int kBits>
void multiply_pairs(const Turns& w);  // pairs_i8mm.inl
#endif

// One stretch of turns; where tiles share it, it pays to decode once and for all.
template <int kBits>
void stretch(const Turns& w, int tokens) {
  if (w.tiles < kWorthDecoding) return run_turns<Codes, kBits>(w, tokens);
  thread_local Scratch<uint8_t> scratch;
  Turns decoded = w;
  uint8_t* levels = scratch.reserve(kLevelBytes);
  decode_lines<kBits>(w, levels);
  decoded.codes = levels;
#if H2Q_I8MM
  if (tokens == 8 && w.groups == 1 && w.steps > 1) return multiply_pairs<kBits>(decoded);
#endif
  run_turns<Levels, kBits>(decoded, tokens);
}

void panel_sums(const PlaneView& plane, int panel, int first, int last, const int8_t* x, int tokens, int tiles,
                int64_t tile_stride, int32_t* sums) {
  const auto run = [&](const Turns& w) {
    if (plane.tables->bits == 2) stretch<2>(w, tokens);
    else stretch<1>(w, tokens);
  };
  const int lines = most(1, plane.steps / plane.symbols), groups = most(1, plane.symbols / plane.steps);
  std::memset(sums, 0, static_cast<size_t>(tokens * tiles * 16 * plane.steps) * sizeof(int32_t));
  Turns w{plane.tables, plane.panel(panel) + static_cast<int64_t>(first / groups) * lines * kLineLanes,
          x,            0,
          plane.steps,  lines,
          groups,       0,
          tiles,        tile_stride,
          sums};
  int left = (last - first) / groups;
  const auto advance = [&](int turns) {
    w.codes += static_cast<int64_t>(turns) * lines * kLineLanes;
    w.x += static_cast<int64_t>(turns) * groups * 4 * tokens;
    left -= turns;
  };
  if (first == 0) {  // nothing lies before a panel's first line: its state is zero
    constexpr int kBefore = 3;  // lines that the start of a whole turn reads
    alignas(64) uint8_t opening[(kBefore + 4) * kLineLanes] = {};
    const int turns = least(left, (kBefore + lines - 1) / lines);
    std::memcpy(opening + kBefore * kLineLanes, w.codes, static_cast<size_t>(turns * lines) * kLineLanes);
    Turns start = w;
    start.codes = opening + kBefore * kLineLanes;
    start.count = turns;
    run(start);
    advance(turns);
  }
  const int most_turns = tiles < kWorthDecoding ? kStretchBytes / (lines * kLineLanes + groups * 4 * tokens)
                                   : kLevelBytes / (lines * plane.symbols * kLineLanes) - 1;
  while (left > 0) {
    w.count = tokens == 1 && kWidth == kLineLanes ? left : least(left, most_turns);
    w.ahead = w.count * lines * kLineLanes;
    run(w);
    advance(w.count);
  }
}
