// The register of the path as GCC and Clang see it. They take wider vectors apart, some of them element by element, so
// hot loops use this type; its width never shows in the bits, because every element is on its own.

#if H2Q_AVX512
constexpr int kVectorBytes = 64;
#elif H2Q_AVX2
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kWide = kVectorBytes / 4;

typedef float Wide __attribute__((vector_size(kVectorBytes)));
typedef int32_t WideInts __attribute__((vector_size(kVectorBytes)));
typedef int8_t WideBytes __attribute__((vector_size(kWide)));

template <typename V, typename T>
H2Q_INLINE V load_vector(const T* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <typename V, typename T>
H2Q_INLINE void store_vector(T* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}
H2Q_INLINE Wide wide(const float* p) { return load_vector<Wide>(p); }
