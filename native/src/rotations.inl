// Rotations of one token, and its rounding to int8. A butterfly is (a, c) -> (a + c, a - c), half ascending; several
// halves are done at a time, in registers, and every value still sees the same additions in the same order.

template <int kHalf, int... i>
H2Q_INLINE Wide butterfly(Wide v, std::integer_sequence<int, i...>) {
  const WideInts upper = {(i & kHalf ? INT32_MIN : 0)...};  // the upper one of a pair is subtracted
  WideInts bits;
  __builtin_memcpy(&bits, &v, sizeof v);
  bits ^= upper;
  Wide turned;
  __builtin_memcpy(&turned, &bits, sizeof v);
  return __builtin_shufflevector(v, v, (i ^ kHalf)...) + turned;
}

// All halves below the width of a vector.
template <int kHalf = 1>
H2Q_INLINE Wide butterflies(Wide v) {
  if constexpr (kHalf < kWide) return butterflies<2 * kHalf>(butterfly<kHalf>(v, std::make_integer_sequence<int, kWide>{}));
  else return v;
}

// Two halves at a time over [0, width), then a last one where their number is odd.
inline void large_halves(float* y, int width, int block) {
  int half = kWide;
  for (; 4 * half <= block; half *= 4)
    for (int i = 0; i < width; i += 4 * half)
      for (int j = i; j < i + half; j += kWide) {
        const Wide a = wide(y + j), b = wide(y + j + half), c = wide(y + j + 2 * half), d = wide(y + j + 3 * half);
        const Wide e = a + b, f = a - b, g = c + d, h = c - d;
        store_vector(y + j, e + g);
        store_vector(y + j + half, f + h);
        store_vector(y + j + 2 * half, e - g);
        store_vector(y + j + 3 * half, f - h);
      }
  if (half < block)
    for (int i = 0; i < width; i += 2 * half)
      for (int j = i; j < i + half; j += kWide) {
        const Wide a = wide(y + j), b = wide(y + j + half);
        store_vector(y + j, a + b);
        store_vector(y + j + half, a - b);
      }
}

// y = H (x * signs) * scale * last_signs; either signs may be null.
inline void hadamard(const float* x, const float* signs, float* y, int width, int block, const float* last_signs) {
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(block)));
  if (block >= kWide) {
    for (int i = 0; i < width; i += kWide)
      store_vector(y + i, butterflies(signs ? wide(x + i) * wide(signs + i) : wide(x + i)));
    large_halves(y, width, block);
  } else {
    for (int i = 0; i < width; ++i) y[i] = signs ? x[i] * signs[i] : x[i];
    for (int half = 1; half < block; half *= 2)
      for (int i = 0; i < width; i += 2 * half)
        for (int j = i; j < i + half; ++j) {
          const float a = y[j], c = y[j + half];
          y[j] = a + c;
          y[j + half] = a - c;
        }
  }
  if (last_signs)
    for (int i = 0; i < width; ++i) y[i] = (y[i] * scale) * last_signs[i];
  else
    for (int i = 0; i < width; ++i) y[i] = y[i] * scale;
}

// Rows [i, i + kRows) of mix, or of its transpose, times the blocks of x, one block after the other.
template <int kRows>
inline void mix_rows(const RotationView& r, const float* x, float* out, bool inverse, int i) {
  const int m = r.mixed;
  const auto share = [&](int row, int j) { return r.mix[inverse ? j * m + i + row : (i + row) * m + j]; };
  int e = 0;
  for (; e + kWide <= r.block; e += kWide) {
    Wide total[kRows];
    for (int j = 0; j < m; ++j) {
      const Wide v = wide(x + j * r.block + e);
      for (int row = 0; row < kRows; ++row) total[row] = j == 0 ? share(row, j) * v : total[row] + share(row, j) * v;
    }
    for (int row = 0; row < kRows; ++row) store_vector(out + (i + row) * r.block + e, total[row]);
  }
  for (; e < r.block; ++e)
    for (int row = 0; row < kRows; ++row) {
      float total = share(row, 0) * x[e];
      for (int j = 1; j < m; ++j) total = total + share(row, j) * x[j * r.block + e];
      out[(i + row) * r.block + e] = total;
    }
}

inline void mix_blocks(const RotationView& r, const float* x, float* out, bool inverse) {
  int i = 0;
  for (; i + 4 <= r.mixed; i += 4) mix_rows<4>(r, x, out, inverse, i);
  for (; i < r.mixed; ++i) mix_rows<1>(r, x, out, inverse, i);
}

void rotate(const RotationView& r, const float* x, float* out, bool inverse) {
  if (r.mixed == 1) {
    hadamard(x, inverse ? nullptr : r.signs, out, r.width, r.block, inverse ? r.signs : nullptr);
    return;
  }
  thread_local Scratch<float> scratch;
  float* between = scratch.reserve(static_cast<size_t>(r.width));
  if (inverse) {
    mix_blocks(r, x, between, true);
    hadamard(between, nullptr, out, r.width, r.block, r.signs);
  } else {
    hadamard(x, r.signs, between, r.width, r.block, nullptr);
    mix_blocks(r, between, out, false);
  }
}

// The largest size; `finite` is cleared by a value that is not.
inline float loudest_of(const float* x, int width, bool* finite) {
  constexpr float kLargest = 3.402823466e+38f;
  float loudest = 0.0f;
  bool good = true;
  int i = 0;
  Wide most{};
  WideInts all = WideInts{} - 1;
  for (; i + kWide <= width; i += kWide) {
    const Wide v = wide(x + i), size = v < 0.0f ? -v : v;
    all &= size <= kLargest;
    most = size > most ? size : most;
  }
  for (int lane = 0; lane < kWide; ++lane) {
    good &= all[lane] != 0;
    loudest = most[lane] > loudest ? most[lane] : loudest;
  }
  for (; i < width; ++i) {
    const float size = x[i] < 0.0f ? -x[i] : x[i];
    good &= size <= kLargest;
    loudest = size > loudest ? size : loudest;
  }
  *finite = good;
  return loudest;
}

bool quantize(const float* x, int width, int stride, int8_t* codes, float* scale, int32_t* sum) {
  bool finite;
  const float loudest = loudest_of(x, width, &finite);
  *sum = 0;
  *scale = 0.0f;
  if (!finite || loudest < 1e-30f) {
    std::memset(codes, 0, static_cast<size_t>(stride));
    return finite;
  }
  const float inverse = 127.0f / loudest;
  constexpr float kMagic = 12582912.0f;  // adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even
  WideInts totals{};
  int32_t total = 0;
  int i = 0;
  for (; i + kWide <= width; i += kWide) {
    const WideInts code = __builtin_convertvector((wide(x + i) * inverse + kMagic) - kMagic, WideInts);
    store_vector(codes + i, __builtin_convertvector(code, WideBytes));
    totals += code;
  }
  for (int lane = 0; lane < kWide; ++lane) total += totals[lane];
  for (; i < width; ++i) {
    const int32_t code = static_cast<int32_t>((x[i] * inverse + kMagic) - kMagic);
    codes[i] = static_cast<int8_t>(code);
    total += code;
  }
  std::memset(codes + width, 0, static_cast<size_t>(stride - width));
  *sum = total;
  *scale = loudest / 127.0f;
  return true;
}

bool rotate_quantize(const RotationView& r, const float* x, int stride, int8_t* codes, float* scale, int32_t* sum) {
  thread_local Scratch<float> scratch;
  float* turned = scratch.reserve(static_cast<size_t>(r.width));
  rotate(r, x, turned, false);
  return quantize(turned, r.width, stride, codes, scale, sum);
}
