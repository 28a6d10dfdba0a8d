// AVX-512 with GFNI, VBMI and VNNI: a line of 64 codes is one register, an index is two or three bit-matrix products.

template <int kBits>
struct Decoder {
  static constexpr int kSymbols = 8 / kBits;
  __m512i matrix[kSymbols][3], biased, last, before;

  explicit Decoder(const CodeTables& t) {
    for (int q = 0; q < kSymbols; ++q)
      for (int b = 0; b < 3; ++b) matrix[q][b] = _mm512_set1_epi64(static_cast<int64_t>(t.affine[q][b]));
    biased = _mm512_load_si512(t.biased);
    last = before = _mm512_setzero_si512();
  }
  void step(__m512i now) { before = last, last = now; }

  template <int q>
  __m512i level(__m512i now) const {
    constexpr bool kThree = 8 - kBits * (q + 1) + kWindow > 16;  // the window reaches into the byte before the last
    const __m512i a = _mm512_gf2p8affine_epi64_epi8(now, matrix[q][0], 0);
    const __m512i b = _mm512_gf2p8affine_epi64_epi8(last, matrix[q][1], 0);
    __m512i index;
    if constexpr (kThree)
      index = _mm512_ternarylogic_epi32(a, b, _mm512_gf2p8affine_epi64_epi8(before, matrix[q][2], 0), 0x96);
    else
      index = _mm512_xor_si512(a, b);
    return _mm512_permutexvar_epi8(index, biased);
  }
};

inline __m512i line_at(const uint8_t* codes, int64_t line) { return _mm512_loadu_si512(codes + line * kLineLanes); }

template <int kBits, int... q>
inline void store_levels(const Decoder<kBits>& d, __m512i now, uint8_t* out, std::integer_sequence<int, q...>) {
  (_mm512_storeu_si512(out + q * kLineLanes, d.template level<q>(now)), ...);
}

template <int kBits>
void decode_bits(const CodeTables& t, const uint8_t* codes, int line, int lines, uint8_t* out) {
  Decoder<kBits> d(t);
  for (int back = least(line, 2); back > 0; --back) d.step(line_at(codes, line - back));
  for (int i = 0; i < lines; ++i) {
    const __m512i now = line_at(codes, line + i);
    store_levels(d, now, out, std::make_integer_sequence<int, Decoder<kBits>::kSymbols>{});
    out += Decoder<kBits>::kSymbols * kLineLanes;
    d.step(now);
  }
}

void decode_lines(const CodeTables& t, const uint8_t* codes, int line, int lines, uint8_t* out) {
  if (t.bits == 2) decode_bits<2>(t, codes, line, lines, out);
  else decode_bits<1>(t, codes, line, lines, out);
}

template <int kTokens>
void dot_tokens(const uint8_t* levels, int groups, int steps, const int8_t* x, int stride, int32_t* sums) {
  for (int t = 0; t < steps; ++t) {
    __m512i sum[kTokens];
    for (int k = 0; k < kTokens; ++k)
      sum[k] = _mm512_loadu_si512(sums + (static_cast<int64_t>(k) * steps + t) * 16);
    for (int g = 0; g < groups; ++g) {
      const __m512i level = _mm512_loadu_si512(levels + static_cast<int64_t>(g * steps + t) * kLineLanes);
#pragma GCC unroll 16
      for (int k = 0; k < kTokens; ++k) {
        int32_t four;
        std::memcpy(&four, x + static_cast<int64_t>(k) * stride + 4 * g, 4);
        sum[k] = _mm512_dpbusd_epi32(sum[k], level, _mm512_set1_epi32(four));
      }
    }
    for (int k = 0; k < kTokens; ++k)
      _mm512_storeu_si512(sums + (static_cast<int64_t>(k) * steps + t) * 16, sum[k]);
  }
}

void dot(const uint8_t* levels, int groups, int steps, const int8_t* x, int stride, int tokens, int32_t* sums) {
  int k = 0;
  const auto at = [&](int token) { return x + static_cast<int64_t>(token) * stride; };
  const auto to = [&](int token) { return sums + static_cast<int64_t>(token) * steps * 16; };
  for (; k + 16 <= tokens; k += 16) dot_tokens<16>(levels, groups, steps, at(k), stride, to(k));
  for (; k + 8 <= tokens; k += 8) dot_tokens<8>(levels, groups, steps, at(k), stride, to(k));
  for (; k + 4 <= tokens; k += 4) dot_tokens<4>(levels, groups, steps, at(k), stride, to(k));
  for (; k < tokens; ++k) dot_tokens<1>(levels, groups, steps, at(k), stride, to(k));
}

// One token: nothing is written between the codes and the sums. kSteps accumulators live in registers.
template <int kBits, int kSteps>
struct Fused {
  static constexpr int kSymbols = 8 / kBits;
  static constexpr int kLinesPerTurn = kSteps > kSymbols ? kSteps / kSymbols : 1;
  static constexpr int kGroupsPerTurn = kSymbols > kSteps ? kSymbols / kSteps : 1;
  Decoder<kBits> decoder;
  const uint8_t* codes;
  const int8_t* x;
  __m512i sum[kSteps];

  template <int kAt>
  inline __attribute__((always_inline)) void step(__m512i now, const int8_t* four_columns) {
    int32_t four;
    std::memcpy(&four, four_columns + 4 * (kAt / kSteps), 4);
    sum[kAt % kSteps] = _mm512_dpbusd_epi32(sum[kAt % kSteps], decoder.template level<kAt % kSymbols>(now),
                                            _mm512_set1_epi32(four));
  }
  template <int kFirst, int... q>
  inline __attribute__((always_inline)) void line(const int8_t* at, std::integer_sequence<int, q...>) {
    const __m512i now = _mm512_loadu_si512(codes);
    codes += kLineLanes;
    __builtin_prefetch(codes + 4096);
    (step<kFirst + q>(now, at), ...);
    decoder.step(now);
  }
  template <int... l>
  inline __attribute__((always_inline)) void turn(const int8_t* at, std::integer_sequence<int, l...>) {
    (line<l * kSymbols>(at, std::make_integer_sequence<int, kSymbols>{}), ...);
  }
  void run(int groups, int32_t* out) {
    for (int t = 0; t < kSteps; ++t) sum[t] = _mm512_setzero_si512();
    for (int g = 0; g < groups; g += kGroupsPerTurn) turn(x + 4 * g, std::make_integer_sequence<int, kLinesPerTurn>{});
    for (int t = 0; t < kSteps; ++t) _mm512_storeu_si512(out + 16 * t, sum[t]);
  }
};

template <int kBits, int kSteps>
void fused_token(const PlaneView& plane, const uint8_t* codes, const int8_t* x, int32_t* sums) {
  Fused<kBits, kSteps> work{Decoder<kBits>(*plane.tables), codes, x, {}};
  work.run(plane.groups(), sums);
}

template <int kBits>
bool fused_bits(const PlaneView& plane, const uint8_t* codes, const int8_t* x, int32_t* sums) {
  switch (plane.steps) {
    case 16: fused_token<kBits, 16>(plane, codes, x, sums); return true;
    case 8: fused_token<kBits, 8>(plane, codes, x, sums); return true;
    case 4: fused_token<kBits, 4>(plane, codes, x, sums); return true;
    case 2: fused_token<kBits, 2>(plane, codes, x, sums); return true;
    default: fused_token<kBits, 1>(plane, codes, x, sums); return true;
  }
}

bool fused(const PlaneView& plane, const uint8_t* codes, const int8_t* x, int32_t* sums) {
  return plane.tables->bits == 2 ? fused_bits<2>(plane, codes, x, sums) : fused_bits<1>(plane, codes, x, sums);
}
