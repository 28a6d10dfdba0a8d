// AVX2: the index of a step is the exclusive or of one 16-entry look-up per nibble of its window.

template <int kBits>
void decode_bits(const CodeTables& t, const uint8_t* codes, int line, int lines, uint8_t* out) {
  constexpr int kSymbols = 8 / kBits;
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i few = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(t.biased)));
  const __m256i many = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(t.biased + 16)));
  for (int half = 0; half < kLineLanes; half += 32) {
    auto read = [&](int at) {
      if (at < 0) return _mm256_setzero_si256();
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + static_cast<int64_t>(at) * kLineLanes + half));
    };
    auto high = [&](__m256i v) { return _mm256_and_si256(_mm256_srli_epi16(v, 4), low); };
    __m256i part[6];
    const __m256i before = read(line - 2), last = read(line - 1);
    part[4] = _mm256_and_si256(before, low), part[5] = high(before);
    part[2] = _mm256_and_si256(last, low), part[3] = high(last);
    for (int i = 0; i < lines; ++i) {
      const __m256i now = read(line + i);
      part[0] = _mm256_and_si256(now, low), part[1] = high(now);
#pragma GCC unroll 8
      for (int q = 0; q < kSymbols; ++q) {
        const int lowest = 8 - kBits * (q + 1), highest = lowest + kWindow - 1;
        __m256i index = _mm256_setzero_si256();
#pragma GCC unroll 6
        for (int n = 0; n < 6; ++n) {
          if (4 * n > highest || 4 * n + 3 < lowest) continue;
          const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(t.nibble[q][n]));
          index = _mm256_xor_si256(index, _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), part[n]));
        }
        const __m256i upper = _mm256_cmpgt_epi8(index, low);
        const __m256i level = _mm256_blendv_epi8(_mm256_shuffle_epi8(few, index),
                                                 _mm256_shuffle_epi8(many, _mm256_and_si256(index, low)), upper);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + static_cast<int64_t>(i * kSymbols + q) * kLineLanes + half),
                            level);
      }
      part[4] = part[2], part[5] = part[3], part[2] = part[0], part[3] = part[1];
    }
  }
}

void decode_lines(const CodeTables& t, const uint8_t* codes, int line, int lines, uint8_t* out) {
  if (t.bits == 2) decode_bits<2>(t, codes, line, lines, out);
  else decode_bits<1>(t, codes, line, lines, out);
}

template <int kTokens>
void dot_tokens(const uint8_t* levels, int groups, int steps, const int8_t* x, int stride, int32_t* sums) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int t = 0; t < steps; ++t) {
    __m256i sum[kTokens][2];
    for (int k = 0; k < kTokens; ++k) sum[k][0] = sum[k][1] = _mm256_setzero_si256();
    for (int g = 0; g < groups; ++g) {
      const uint8_t* at = levels + static_cast<int64_t>(g * steps + t) * kLineLanes;
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
      const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32));
#pragma GCC unroll 4
      for (int k = 0; k < kTokens; ++k) {
        int32_t four;
        std::memcpy(&four, x + static_cast<int64_t>(k) * stride + 4 * g, 4);
        const __m256i v = _mm256_set1_epi32(four);
        sum[k][0] = _mm256_add_epi32(sum[k][0], _mm256_madd_epi16(_mm256_maddubs_epi16(a, v), ones));
        sum[k][1] = _mm256_add_epi32(sum[k][1], _mm256_madd_epi16(_mm256_maddubs_epi16(b, v), ones));
      }
    }
    for (int k = 0; k < kTokens; ++k)
      for (int h = 0; h < 2; ++h) {
        __m256i* row = reinterpret_cast<__m256i*>(sums + (static_cast<int64_t>(k) * steps + t) * 16 + 8 * h);
        _mm256_storeu_si256(row, _mm256_add_epi32(_mm256_loadu_si256(row), sum[k][h]));
      }
  }
}

void dot(const uint8_t* levels, int groups, int steps, const int8_t* x, int stride, int tokens, int32_t* sums) {
  int k = 0;
  const auto at = [&](int token) { return x + static_cast<int64_t>(token) * stride; };
  const auto to = [&](int token) { return sums + static_cast<int64_t>(token) * steps * 16; };
  for (; k + 4 <= tokens; k += 4) dot_tokens<4>(levels, groups, steps, at(k), stride, to(k));
  for (; k < tokens; ++k) dot_tokens<1>(levels, groups, steps, at(k), stride, to(k));
}

bool fused(const PlaneView&, const uint8_t*, const int8_t*, int32_t*) { return false; }
