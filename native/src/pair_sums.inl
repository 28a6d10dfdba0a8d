// Products of queries with what a page holds, many results at a time: no result needs its lanes added up.

typedef int16_t WidePairs __attribute__((vector_size(kVectorBytes)));

// int8 (result, 2) widened: each element of a vector of results holds both.
H2Q_INLINE WidePairs widen_pairs(const int8_t* p) {
#if H2Q_AVX512
  return reinterpret_cast<WidePairs>(_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif H2Q_AVX2
  return reinterpret_cast<WidePairs>(_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__aarch64__)
  return reinterpret_cast<WidePairs>(vmovl_s8(vld1_s8(p)));
#else
  typedef int8_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  return __builtin_convertvector(load_vector<Narrow>(p), WidePairs);
#endif
}

// sum + a.first * b.first + a.second * b.second, a the same for all.
H2Q_INLINE WideInts add_pairs(WideInts sum, WidePairs b, int32_t a) {
#if H2Q_AVX512
  const __m512i total = reinterpret_cast<__m512i>(sum), x = reinterpret_cast<__m512i>(b), y = _mm512_set1_epi32(a);
#if defined(__AVX512VNNI__)
  return reinterpret_cast<WideInts>(_mm512_dpwssd_epi32(total, x, y));
#else
  return reinterpret_cast<WideInts>(_mm512_add_epi32(total, _mm512_madd_epi16(x, y)));
#endif
#elif H2Q_AVX2
  const __m256i total = reinterpret_cast<__m256i>(sum), x = reinterpret_cast<__m256i>(b), y = _mm256_set1_epi32(a);
#if H2Q_VNNI && defined(__AVXVNNI__)
  return reinterpret_cast<WideInts>(_mm256_dpwssd_avx_epi32(total, x, y));
#elif H2Q_VNNI
  return reinterpret_cast<WideInts>(_mm256_dpwssd_epi32(total, x, y));
#else
  return reinterpret_cast<WideInts>(_mm256_add_epi32(total, _mm256_madd_epi16(x, y)));
#endif
#elif defined(__aarch64__)
  const int16x8_t x = reinterpret_cast<int16x8_t>(b), y = vreinterpretq_s16_s32(vdupq_n_s32(a));
  const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y)), high = vmull_high_s16(x, y);
  return reinterpret_cast<WideInts>(vaddq_s32(reinterpret_cast<int32x4_t>(sum), vpaddq_s32(low, high)));
#else
  WideInts both;
  __builtin_memcpy(&both, &b, sizeof both);
  const WideInts even = (both << 16) >> 16, odd = both >> 16;
  return sum + (even * static_cast<int32_t>(static_cast<int16_t>(a)) + odd * (a >> 16));
#endif
}

// Whole numbers: b int8 (count, results, 2).
struct PairForm {
  typedef WideInts Sums;
  typedef WidePairs Factors;
  typedef int32_t Sum;
  typedef int8_t Stored;
  static constexpr int kStep = 2;
  static H2Q_INLINE Factors read(const Stored* p) { return widen_pairs(p); }
  static H2Q_INLINE Sums add(Sums sum, Factors b, int32_t a) { return add_pairs(sum, b, a); }
};

// Floats: b float16 (count, results), finite.
struct HalfForm {
  typedef Wide Sums;
  typedef Wide Factors;
  typedef float Sum;
  typedef uint16_t Stored;
  static constexpr int kStep = 1;
  static H2Q_INLINE Factors read(const Stored* p) {
    typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
    const WideInts half = __builtin_convertvector(load_vector<Halves>(p), WideInts);
    const WideInts size = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
    Wide value;
    __builtin_memcpy(&value, &size, sizeof value);
    value = value * 0x1p112f;  // the difference of the biases; exact, for the smallest too
    WideInts bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    bits |= sign;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }
  static H2Q_INLINE Sums add(Sums sum, Factors b, int32_t a) {
    float factor;
    __builtin_memcpy(&factor, &a, sizeof factor);
    return sum + factor * b;
  }
};

// Vectors of results at a time, as registers allow with four queries.
constexpr int kAcross = kVectorBytes == 32 ? 2 : 4;

template <typename Form, int kQueries, int kVectors>
H2Q_INLINE void tile_sums(const int32_t* a, int stride, const typename Form::Stored* b, int results, int count,
                          typename Form::Sum* out, const typename Form::Stored* ahead) {
  typename Form::Sums sums[kQueries][kVectors] = {};
  for (int i = 0; i < count; ++i, b += Form::kStep * results) {
    if (ahead) {  // line by line: more at once than there are ways to memory would hold everything up
      for (int v = 0; v < kVectors; v += 2) __builtin_prefetch(ahead + Form::kStep * kWide * v, 0, 2);
      ahead += Form::kStep * results;
    }
    typename Form::Factors factors[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) factors[v] = Form::read(b + Form::kStep * kWide * v);
#pragma GCC unroll 4
    for (int q = 0; q < kQueries; ++q) {
      const int32_t factor = a[q * stride + i];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[q][v] = Form::add(sums[q][v], factors[v], factor);
    }
  }
  for (int q = 0; q < kQueries; ++q)
    for (int v = 0; v < kVectors; ++v) store_vector(out + q * results + v * kWide, sums[q][v]);
}

template <typename Form, int kQueries>
inline void row_sums(const int32_t* a, int stride, const typename Form::Stored* b, int results, int count,
                     typename Form::Sum* out, const typename Form::Stored* ahead) {
  int at = 0;
  for (; at + kAcross * kWide <= results; at += kAcross * kWide)
    tile_sums<Form, kQueries, kAcross>(a, stride, b + Form::kStep * at, results, count, out + at,
                                        ahead ? ahead + Form::kStep * at : nullptr);
  for (; at < results; at += kWide)
    tile_sums<Form, kQueries, 1>(a, stride, b + Form::kStep * at, results, count, out + at,
                                        ahead ? ahead + Form::kStep * at : nullptr);
}

// out (queries, results) = a (queries, stride; words of four bytes) times b, results a multiple of 16. `ahead`, when not
// null, has the form of b and is asked for meanwhile: it is what comes next, and memory does not know.
template <typename Form>
inline void product_sums(const int32_t* a, int stride, int queries, const typename Form::Stored* b, int results,
                         int count, typename Form::Sum* out, const typename Form::Stored* ahead) {
  for (; queries >= 4; queries -= 4, a += 4 * stride, out += 4 * results, ahead = nullptr)
    row_sums<Form, 4>(a, stride, b, results, count, out, ahead);
  if (queries >= 2) {
    row_sums<Form, 2>(a, stride, b, results, count, out, ahead);
    queries -= 2, a += 2 * stride, out += 2 * results, ahead = nullptr;
  }
  if (queries) row_sums<Form, 1>(a, stride, b, results, count, out, ahead);
}
