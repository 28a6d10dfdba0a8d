// AVX-512 with GFNI, VBMI and VNNI: a line of 64 codes is one register, an index is two bit-matrix products.

constexpr int kWidth = 64;        // lanes of a vector
constexpr int kBudget = 16;       // sums kept in registers
constexpr int kBias = kLevelOffset;
typedef __m512i Bytes;
typedef __m512i Sums;
typedef __m512i Four;

template <int kBits>
struct Decoder {
  static constexpr int kSymbols = 8 / kBits;
  __m512i outer[kSymbols], inner[kSymbols], biased, now, last, mixed;

  explicit H2Q_INLINE Decoder(const CodeTables& t) : Decoder(t, std::make_integer_sequence<int, kSymbols>{}) {}
  // A window that reaches into the byte before the last takes at most half of each outer byte: both share one product.
  template <int... q>
  H2Q_INLINE Decoder(const CodeTables& t, std::integer_sequence<int, q...>)
      : outer{_mm512_set1_epi64(static_cast<int64_t>(t.affine[q][0] | t.affine[q][2]))...},
        inner{_mm512_set1_epi64(static_cast<int64_t>(t.affine[q][1]))...},
        biased(_mm512_load_si512(t.biased)) {}
  H2Q_INLINE void read(const uint8_t* at) {
    now = _mm512_loadu_si512(at);
    last = _mm512_loadu_si512(at - kLineLanes);
    mixed = _mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(0xf0)), now,
                                      _mm512_loadu_si512(at - 2 * kLineLanes), 0xca);
  }
  H2Q_INLINE void next(const uint8_t* at) { read(at); }
  template <int q>
  H2Q_INLINE Bytes level() const {
    constexpr bool kThree = 8 - kBits * (q + 1) + kWindow > 16;
    const __m512i a = _mm512_gf2p8affine_epi64_epi8(kThree ? mixed : now, outer[q], 0);
    const __m512i b = _mm512_gf2p8affine_epi64_epi8(last, inner[q], 0);
    return _mm512_permutexvar_epi8(_mm512_xor_si512(a, b), biased);
  }
};

H2Q_INLINE Sums no_sums() { return _mm512_setzero_si512(); }
H2Q_INLINE void add_sums(int32_t* to, Sums v) { _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(to), v)); }
H2Q_INLINE Four broadcast(const int8_t* four) { return _mm512_set1_epi32(four_bytes(four)); }
// In words of its own: GCC 12 copies the sum first.
H2Q_INLINE Sums dot(Sums sum, Bytes levels, Four x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(levels), "v"(x));
  return sum;
}
H2Q_INLINE Bytes load_levels(const uint8_t* p) { return _mm512_loadu_si512(p); }
H2Q_INLINE void store_levels(uint8_t* p, Bytes v) { _mm512_storeu_si512(p, v); }

