// AVX-512 without GFNI, with or without VNNI: a line is one register, look-ups stay within its four quarters.

constexpr int kWidth = 64;
constexpr int kBudget = 16;
constexpr int kBias = kLevelOffset;
typedef __m512i Bytes;
typedef __m512i Sums;
typedef __m512i Four;

H2Q_INLINE const uint8_t* level_table(const CodeTables& t) { return t.biased; }
H2Q_INLINE Bytes load(const uint8_t* p) { return _mm512_loadu_si512(p); }
H2Q_INLINE Bytes table(const uint8_t* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
H2Q_INLINE Bytes look_up(Bytes entries, Bytes index) { return _mm512_shuffle_epi8(entries, index); }
H2Q_INLINE Bytes low(Bytes v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
H2Q_INLINE Bytes high(Bytes v) { return low(_mm512_srli_epi16(v, 4)); }
H2Q_INLINE Bytes flip(Bytes v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
H2Q_INLINE Bytes either(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
H2Q_INLINE Bytes differ(Bytes a, Bytes b) { return _mm512_xor_si512(a, b); }

H2Q_INLINE Sums no_sums() { return _mm512_setzero_si512(); }
H2Q_INLINE void add_sums(int32_t* to, Sums v) { _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(to), v)); }
H2Q_INLINE Bytes load_levels(const uint8_t* p) { return load(p); }
H2Q_INLINE void store_levels(uint8_t* p, Bytes v) { _mm512_storeu_si512(p, v); }
H2Q_INLINE Four broadcast(const int8_t* four) { return _mm512_set1_epi32(four_bytes(four)); }
H2Q_INLINE Sums dot(Sums sum, Bytes levels, Four x) {
#if H2Q_VNNI
  return _mm512_dpbusd_epi32(sum, levels, x);
#else
  return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(levels, x), _mm512_set1_epi16(1)));
#endif
}
