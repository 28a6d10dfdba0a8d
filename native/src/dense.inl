// Weights that stay unencoded, float32 or bfloat16: sixteen running sums per product, then their tree.

H2Q_INLINE Floats weights_at(const float* w, int64_t i) { return load(w + i); }
H2Q_INLINE Floats weights_at(const uint16_t* w, int64_t i) {
  typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
  typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
  Halves halves;
  std::memcpy(&halves, w + i, sizeof halves);
  const Words words = __builtin_convertvector(halves, Words) << 16;
  Floats out;
  std::memcpy(&out, &words, sizeof out);
  return out;
}

template <typename T, int kTokens>
inline void dense_tokens(const T* w, const float* x, int width, int64_t stride, float* out, int64_t rows) {
  Floats sum[kTokens] = {};
  int i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Floats weights = weights_at(w, i);
#pragma GCC unroll 4
    for (int k = 0; k < kTokens; ++k) sum[k] = sum[k] + load(x + k * stride + i) * weights;
  }
  if (i < width) {
    T rest[kLanes] = {};
    std::memcpy(rest, w + i, static_cast<size_t>(width - i) * sizeof(T));
    const Floats weights = weights_at(rest, 0);
    for (int k = 0; k < kTokens; ++k) sum[k] = sum[k] + load_part(x + k * stride + i, width - i) * weights;
  }
  for (int k = 0; k < kTokens; ++k) out[k * rows] = tree(sum[k]);
}

template <typename T>
inline void dense_rows(const DenseView& v, const T* w, int first, int last) {
  for (int row = first; row < last; ++row) {
    const T* at = w + static_cast<int64_t>(row) * v.width;
    int t = 0;
    for (; t + 4 <= v.tokens; t += 4)
      dense_tokens<T, 4>(at, v.x + static_cast<int64_t>(t) * v.width, v.width, v.width,
                         v.out + static_cast<int64_t>(t) * v.rows + row, v.rows);
    for (; t < v.tokens; ++t)
      dense_tokens<T, 1>(at, v.x + static_cast<int64_t>(t) * v.width, v.width, v.width,
                         v.out + static_cast<int64_t>(t) * v.rows + row, v.rows);
  }
}

void dense(const DenseView& v, int first, int last) {
  if (v.wide) dense_rows(v, v.wide, first, last);
  else dense_rows(v, v.narrow, first, last);
}
