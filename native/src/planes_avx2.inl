// AVX2, with or without its own VNNI: half a line is one register.

constexpr int kWidth = 32;
constexpr int kBudget = 8;
constexpr int kBias = kLevelOffset;
typedef __m256i Bytes;
typedef __m256i Sums;
typedef __m256i Four;

H2Q_INLINE const uint8_t* level_table(const CodeTables& t) { return t.biased; }
H2Q_INLINE Bytes load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
H2Q_INLINE Bytes table(const uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
H2Q_INLINE Bytes look_up(Bytes entries, Bytes index) { return _mm256_shuffle_epi8(entries, index); }
H2Q_INLINE Bytes low(Bytes v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
H2Q_INLINE Bytes high(Bytes v) { return low(_mm256_srli_epi16(v, 4)); }
H2Q_INLINE Bytes flip(Bytes v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
H2Q_INLINE Bytes either(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
H2Q_INLINE Bytes differ(Bytes a, Bytes b) { return _mm256_xor_si256(a, b); }

H2Q_INLINE Sums no_sums() { return _mm256_setzero_si256(); }
H2Q_INLINE void add_sums(int32_t* to, Sums v) {
  __m256i* at = reinterpret_cast<__m256i*>(to);
  _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), v));
}
H2Q_INLINE Bytes load_levels(const uint8_t* p) { return load(p); }
H2Q_INLINE void store_levels(uint8_t* p, Bytes v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
H2Q_INLINE Four broadcast(const int8_t* four) { return _mm256_set1_epi32(four_bytes(four)); }
H2Q_INLINE Sums dot(Sums sum, Bytes levels, Four x) {
#if H2Q_VNNI && defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(sum, levels, x);
#elif H2Q_VNNI
  return _mm256_dpbusd_epi32(sum, levels, x);
#else
  // Levels are at most 127, so that the pairs of VPMADDUBSW do not saturate.
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(levels, x), _mm256_set1_epi16(1)));
#endif
}
