// Sums of a panel by AMX: TDPBSUD multiplies the inputs of up to sixteen tokens with sixteen groups of columns of
// sixteen rows at once. A block is sixteen groups: decoded, its levels lie as (step, group, lane), every step a tile.

constexpr int kCell = 16;                     // groups of a block
constexpr int kTileBytes = 64 * kCell;        // levels of a step
constexpr int kMostSteps = 16;
constexpr int kStretchCodes = 16 * 1024;      // of codes that strips share
constexpr int kStretchBytes = 128 * 1024;     // of levels that tiles of tokens share while they lie in the second cache

// Registers 0 to 3 hold sums, 4 and 5 inputs, 6 and 7 levels. In words of its own: the intrinsics of GCC 12 do not say
// that they read and write memory.
#define H2Q_TILE_LOAD(tile, at, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(at), "r"(static_cast<int64_t>(stride)) : "memory")
#define H2Q_TILE_STORE(tile, at, stride) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(at), "r"(static_cast<int64_t>(stride)) : "memory")
#define H2Q_TILE_DOT(sums, inputs, levels) \
  asm volatile("tdpbsud %%tmm" #levels ", %%tmm" #inputs ", %%tmm" #sums : : : "memory")

// The unit is this thread's while one of these lives, for tiles of that many tokens.
struct Tiles {
  explicit H2Q_INLINE Tiles(int tokens) {
    alignas(64) uint8_t form[64] = {1};
    for (int tile = 0; tile < 8; ++tile) {
      form[16 + 2 * tile] = 64;
      form[48 + tile] = tile < 6 ? static_cast<uint8_t>(tokens) : kCell;
    }
    asm volatile("ldtilecfg (%0)" : : "r"(form) : "memory");
  }
  H2Q_INLINE ~Tiles() { asm volatile("tilerelease" : : : "memory"); }
  Tiles(const Tiles&) = delete;
};

// What a thread decodes into, and the beginning of a panel behind empty lines.
struct Room {
  alignas(64) uint8_t levels[kStretchBytes], opening[2 * kLineLanes + kCell * kMostSteps / 4 * kLineLanes];
};
thread_local Room room;

// Where everything of one call lies.
struct Sheet {
  const uint8_t* codes;  // of the next block; two lines before it can be read
  const int8_t* x;       // (tile, block, token, 64)
  int32_t* sums;         // (tile, token, 16 R)
  int turns;             // to come: least whole lines that hold whole groups
  int tokens, tiles;
  int64_t tile_stride;
  int ahead;  // bytes from a turn to what will be wanted when a stretch is done
};

template <int kBits, int kSteps>
struct Blocks {
  static constexpr int kSymbols = 8 / kBits;
  static constexpr int kLines = kSteps > kSymbols ? kSteps / kSymbols : 1;
  static constexpr int kGroups = kSymbols > kSteps ? kSymbols / kSteps : 1;
  static constexpr int kTurns = kCell / kGroups;  // of a block
  static constexpr int kTurnBytes = kLines * kLineLanes;
  static constexpr int kHeight = 16 * kSteps, kRow = kHeight * 4;  // of a panel; bytes of a token's sums
  static constexpr int kBlockBytes = kSteps * kTileBytes;

  template <int kLine, int... q>
  static H2Q_INLINE void line(Decoder<kBits>& decoder, const uint8_t* codes, uint8_t* to,
                              std::integer_sequence<int, q...>) {
    decoder.read(codes + kLine * kLineLanes);
    __builtin_prefetch(codes + kLine * kLineLanes + 4096);
    (store_levels(to + (kLine * kSymbols + q) % kSteps * kTileBytes + (kLine * kSymbols + q) / kSteps * 64,
                  decoder.template level<q>()),
     ...);
  }
  template <int... l>
  static H2Q_INLINE void turn(Decoder<kBits>& decoder, const uint8_t* codes, uint8_t* to,
                              std::integer_sequence<int, l...>) {
    (line<l>(decoder, codes, to, std::make_integer_sequence<int, kSymbols>{}), ...);
  }
  // Turn `index` of a block.
  static H2Q_INLINE void decode(Decoder<kBits>& decoder, const uint8_t* codes, uint8_t* levels, int index) {
    turn(decoder, codes + index * kTurnBytes, levels + index * kGroups * 64, std::make_integer_sequence<int, kLines>{});
  }
  static void decode_block(Decoder<kBits>& decoder, const uint8_t* codes, uint8_t* levels, int turns) {
    for (int index = 0; index < turns; ++index) decode(decoder, codes, levels, index);
  }
  // A panel begins in state zero: its first block is read from a copy behind empty lines.
  static H2Q_INLINE const uint8_t* opening(const uint8_t* codes, int turns) {
    std::memset(room.opening, 0, 2 * kLineLanes);
    std::memcpy(room.opening + 2 * kLineLanes, codes, static_cast<size_t>(turns * kTurnBytes));
    return room.opening + 2 * kLineLanes;
  }

  // Some steps whose sums stay in the unit while a stretch of blocks goes by.
  static constexpr int kStripSteps = kSteps < 4 ? kSteps : 4, kStrips = kSteps / kStripSteps;
  static constexpr int kEvery = kTurns / kStripSteps;  // turns to be decoded while a step is multiplied

  template <int kStrip, int... q>
  static H2Q_INLINE void strip_line(Decoder<kBits>& decoder, const uint8_t* codes, uint8_t* levels, int ahead, int index,
                                    std::integer_sequence<int, q...>) {
    constexpr int kAt = kStrip * kStripSteps % kSymbols;  // the first of its symbols in a line
    const uint8_t* at = codes + index * kTurnBytes + kStrip * kStripSteps / kSymbols * kLineLanes;
    decoder.read(at);
    if constexpr (kStrip == 0)
      for (int line = 0; line < kLines; ++line) __builtin_prefetch(at + ahead + line * kLineLanes, 0, 2);
    (store_levels(levels + index * kGroups * 64 + q % kStripSteps * kTileBytes + q / kStripSteps * 64,
                  decoder.template level<kAt + q>()),
     ...);
  }
  template <int kStrip>
  static H2Q_INLINE void strip_turn(Decoder<kBits>& decoder, const uint8_t* codes, uint8_t* levels, int ahead,
                                    int index) {
    strip_line<kStrip>(decoder, codes, levels, ahead, index,
                       std::make_integer_sequence<int, kStripSteps * kGroups>{});
  }
  template <int kStep>
  static H2Q_INLINE void multiply(const uint8_t* levels) {
    if constexpr (kStep < kStripSteps) {
      if constexpr (kStep % 2 == 0) H2Q_TILE_LOAD(6, levels + kStep * kTileBytes, 64);
      else H2Q_TILE_LOAD(7, levels + kStep * kTileBytes, 64);
      if constexpr (kStep == 0) H2Q_TILE_DOT(0, 4, 6);
      if constexpr (kStep == 1) H2Q_TILE_DOT(1, 4, 7);
      if constexpr (kStep == 2) H2Q_TILE_DOT(2, 4, 6);
      if constexpr (kStep == 3) H2Q_TILE_DOT(3, 4, 7);
    }
  }
  template <int kStrip, int kStep>
  static H2Q_INLINE void both(Decoder<kBits>& decoder, const uint8_t* codes, uint8_t* next, const uint8_t* ready,
                              int ahead) {
    if constexpr (kStep < kStripSteps) {
      multiply<kStep>(ready);
      for (int index = kStep * kEvery; index < (kStep + 1) * kEvery; ++index)
        strip_turn<kStrip>(decoder, codes, next, ahead, index);
    }
  }
  template <int kStrip>
  static void strip(Decoder<kBits>& decoder, const Sheet& w, int turns) {
    int32_t* sums = w.sums + 16 * kStrip * kStripSteps;
    const int ahead = w.ahead;
    H2Q_TILE_LOAD(0, sums, kRow);
    if constexpr (kStripSteps > 1) H2Q_TILE_LOAD(1, sums + 16, kRow);
    if constexpr (kStripSteps > 2) H2Q_TILE_LOAD(2, sums + 32, kRow);
    if constexpr (kStripSteps > 3) H2Q_TILE_LOAD(3, sums + 48, kRow);
    uint8_t *ready = room.levels, *next = ready + kStripSteps * kTileBytes;
    const uint8_t* codes = w.codes;
    const int8_t* x = w.x;
    for (int index = 0; index < least(turns, kTurns); ++index)
      strip_turn<kStrip>(decoder, codes, ready, ahead, index);
    for (turns -= kTurns; turns > -kTurns; turns -= kTurns, x += w.tokens * 64) {
      codes += kTurns * kTurnBytes;
      H2Q_TILE_LOAD(4, x, 64);
      if (turns >= kTurns) {
        both<kStrip, 0>(decoder, codes, next, ready, ahead);
        both<kStrip, 1>(decoder, codes, next, ready, ahead);
        both<kStrip, 2>(decoder, codes, next, ready, ahead);
        both<kStrip, 3>(decoder, codes, next, ready, ahead);
      } else {
        multiply<0>(ready);
        multiply<1>(ready);
        multiply<2>(ready);
        multiply<3>(ready);
        for (int index = 0; index < turns; ++index) strip_turn<kStrip>(decoder, codes, next, ahead, index);
      }
      uint8_t* const done = ready;
      ready = next, next = done;
    }
    H2Q_TILE_STORE(0, sums, kRow);
    if constexpr (kStripSteps > 1) H2Q_TILE_STORE(1, sums + 16, kRow);
    if constexpr (kStripSteps > 2) H2Q_TILE_STORE(2, sums + 32, kRow);
    if constexpr (kStripSteps > 3) H2Q_TILE_STORE(3, sums + 48, kRow);
  }
  template <int... strips>
  static void all_strips(Decoder<kBits>& decoder, const Sheet& w, int turns, std::integer_sequence<int, strips...>) {
    (strip<strips>(decoder, w, turns), ...);
  }

  // One tile: a block is decoded while the one before is multiplied; strips share codes while they lie in a near cache.
  static void single(Sheet w, bool first) {
    constexpr int kMostTurns = kStretchCodes / kTurnBytes / kTurns * kTurns;
    const Tiles unit(w.tokens);
    Decoder<kBits> decoder(*code_tables(kBits));
    while (w.turns > 0) {
      const int turns = least(w.turns, first ? kTurns : kMostTurns);
      const uint8_t* codes = w.codes;
      w.ahead = turns * kTurnBytes;
      if (first) w.codes = opening(codes, turns), w.ahead = 0;
      all_strips(decoder, w, turns, std::make_integer_sequence<int, kStrips>{});
      first = false;
      w.codes = codes + turns * kTurnBytes;
      w.x += (turns + kTurns - 1) / kTurns * w.tokens * 64;
      w.turns -= turns;
    }
  }

  // Two steps, or the only one, for one or two tiles, over all blocks of a stretch.
  template <bool kTwoSteps, bool kTwoTiles>
  static H2Q_INLINE void square(const uint8_t* levels, const int8_t* x, int64_t tile_stride, int tokens, int blocks,
                                int32_t* sums) {
    int32_t* more = sums + tokens * kHeight;
    H2Q_TILE_LOAD(0, sums, kRow);
    if constexpr (kTwoSteps) H2Q_TILE_LOAD(1, sums + 16, kRow);
    if constexpr (kTwoTiles) H2Q_TILE_LOAD(2, more, kRow);
    if constexpr (kTwoSteps && kTwoTiles) H2Q_TILE_LOAD(3, more + 16, kRow);
    for (int block = 0; block < blocks; ++block, levels += kBlockBytes, x += tokens * 64) {
      H2Q_TILE_LOAD(4, x, 64);
      H2Q_TILE_LOAD(6, levels, 64);
      H2Q_TILE_DOT(0, 4, 6);
      if constexpr (kTwoSteps) {
        H2Q_TILE_LOAD(7, levels + kTileBytes, 64);
        H2Q_TILE_DOT(1, 4, 7);
      }
      if constexpr (kTwoTiles) {
        H2Q_TILE_LOAD(5, x + tile_stride, 64);
        H2Q_TILE_DOT(2, 5, 6);
        if constexpr (kTwoSteps) H2Q_TILE_DOT(3, 5, 7);
      }
    }
    H2Q_TILE_STORE(0, sums, kRow);
    if constexpr (kTwoSteps) H2Q_TILE_STORE(1, sums + 16, kRow);
    if constexpr (kTwoTiles) H2Q_TILE_STORE(2, more, kRow);
    if constexpr (kTwoSteps && kTwoTiles) H2Q_TILE_STORE(3, more + 16, kRow);
  }

  // Many tiles share the levels of a stretch of blocks.
  static void many(Sheet w, bool first) {
    constexpr int kMostBlocks = kStretchBytes / kBlockBytes;
    constexpr int kAtOnce = kSteps > 1 ? 2 : 1;
    uint8_t* const levels = room.levels;
    const Tiles unit(w.tokens);
    Decoder<kBits> decoder(*code_tables(kBits));
    while (w.turns > 0) {
      int blocks = 0;
      for (; blocks < kMostBlocks && w.turns > 0; ++blocks, w.codes += kTurns * kTurnBytes) {
        const int turns = least(w.turns, kTurns);
        decode_block(decoder, first ? opening(w.codes, turns) : w.codes, levels + blocks * kBlockBytes, turns);
        first = false;
        w.turns -= turns;
      }
      for (int index = 0; index < kSteps; index += kAtOnce) {
        const uint8_t* at = levels + index * kTileBytes;
        int tile = 0;
        for (; tile + 2 <= w.tiles; tile += 2)
          square<kAtOnce == 2, true>(at, w.x + tile * w.tile_stride, w.tile_stride, w.tokens, blocks,
                                     w.sums + tile * w.tokens * kHeight + 16 * index);
        if (tile < w.tiles)
          square<kAtOnce == 2, false>(at, w.x + tile * w.tile_stride, w.tile_stride, w.tokens, blocks,
                                      w.sums + tile * w.tokens * kHeight + 16 * index);
      }
      w.x += blocks * w.tokens * 64;
    }
  }
};

template <int kBits, int kSteps>
void sums_of(const PlaneView& plane, int panel, int first, int last, Sheet w) {
  using Form = Blocks<kBits, kSteps>;
  w.codes = plane.panel(panel) + int64_t{first} / Form::kGroups * Form::kTurnBytes;
  w.turns = (last - first) / Form::kGroups;
  std::memset(w.sums, 0, static_cast<size_t>(w.tokens * w.tiles * Form::kHeight) * sizeof(int32_t));
  if (w.turns == 0) return;
  if (w.tiles == 1) Form::single(w, first == 0);
  else Form::many(w, first == 0);
}

template <int kBits>
void sums_of_bits(const PlaneView& plane, int panel, int first, int last, const Sheet& w) {
  switch (plane.steps) {
    case 16: return sums_of<kBits, 16>(plane, panel, first, last, w);
    case 8: return sums_of<kBits, 8>(plane, panel, first, last, w);
    case 4: return sums_of<kBits, 4>(plane, panel, first, last, w);
    case 2: return sums_of<kBits, 2>(plane, panel, first, last, w);
    default: return sums_of<kBits, 1>(plane, panel, first, last, w);
  }
}

void panel_sums(const PlaneView& plane, int panel, int first, int last, const int8_t* x, int tokens, int tiles,
                int64_t tile_stride, int32_t* sums) {
  const Sheet w{nullptr, x, sums, 0, tokens, tiles, tile_stride, 0};
  if (plane.tables->bits == 2) sums_of_bits<2>(plane, panel, first, last, w);
  else sums_of_bits<1>(plane, panel, first, last, w);
}

// Multiply-adds on what lies in registers, as fast as the unit goes.
int64_t dots(int64_t rounds) {
  alignas(64) uint8_t ones[kTileBytes];
  std::memset(ones, 1, sizeof ones);
  const Tiles unit(kCell);
  H2Q_TILE_LOAD(4, ones, 64);
  H2Q_TILE_LOAD(6, ones, 64);
  for (int64_t round = 0; round < rounds; ++round) {
    H2Q_TILE_DOT(0, 4, 6);
    H2Q_TILE_DOT(1, 4, 6);
    H2Q_TILE_DOT(2, 4, 6);
    H2Q_TILE_DOT(3, 4, 6);
  }
  alignas(64) int32_t kept[kTileBytes / 4];
  H2Q_TILE_STORE(3, kept, 64);
  return kept[0] == static_cast<int32_t>(64 * rounds) ? rounds * 4 * kCell * kCell * 64 : 0;
}
