// Float operations, written once; every path compiles them with its own flags and gets the same bits.
// No library templates here: the linker would keep one copy of them, compiled for the wrong processor.

template <typename T>
struct Scratch {
  T* data = nullptr;
  size_t capacity = 0;
  T* reserve(size_t count) {
    if (count > capacity) {
      std::free(data);
      data = static_cast<T*>(std::malloc(count * sizeof(T)));
      capacity = data ? count : 0;
      if (!data) std::abort();
    }
    return data;
  }
  ~Scratch() { std::free(data); }
};

inline int least(int a, int b) { return a < b ? a : b; }
inline int most(int a, int b) { return a > b ? a : b; }

inline Floats load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Floats load_part(const float* p, int count) {
  Floats v{};
  std::memcpy(&v, p, static_cast<size_t>(count) * sizeof(float));
  return v;
}
inline void store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }

inline float tree(Floats v) {
  float a[kLanes];
  std::memcpy(a, &v, sizeof a);
  for (int half = kLanes / 2; half; half /= 2)
    for (int j = 0; j < half; ++j) a[j] = a[j] + a[j + half];
  return a[0];
}

// Of vectors of any width.
template <typename V>
H2Q_INLINE V exponential(V x) {
  typedef decltype(x < x) Whole;
  const V zero{};
  x = x > zero + 88.0f ? zero + 88.0f : x;
  x = x < zero - 87.0f ? zero - 87.0f : x;
  constexpr float kMagic = 12582912.0f;  // adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even
  const V n = (x * 1.44269504f + kMagic) - kMagic;
  const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  V p = zero + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = ((p * (r * r)) + r) + 1.0f;
  const Whole power = (__builtin_convertvector(n, Whole) + 127) << 23;
  V scale;
  std::memcpy(&scale, &power, sizeof scale);
  return p * scale;
}

void rms_norm(const float* x, const float* weight, float eps, int width, float* out) {
  Floats sum{};
  int i = 0;
  for (; i + kLanes <= width; i += kLanes) sum = sum + load(x + i) * load(x + i);
  if (i < width) {
    const Floats rest = load_part(x + i, width - i);
    sum = sum + rest * rest;
  }
  const float inverse = 1.0f / std::sqrt(tree(sum) / static_cast<float>(width) + eps);
  for (i = 0; i < width; ++i) out[i] = (x[i] * inverse) * weight[i];
}

void add_rms_norm(const float* x, const float* delta, const float* weight, float eps, int width, float* total,
                  float* out) {
  for (int i = 0; i < width; ++i) total[i] = x[i] + delta[i];
  rms_norm(total, weight, eps, width, out);
}

constexpr int kSumBlock = 1024;  // floats that are added as floats; sums of blocks are added as doubles

// The largest and where it is first, the sum of exponentials of what lies below it, and that of their products with it;
// false for NaN, for +inf, and where all are -inf.
bool softmax_sums(const float* x, int count, float* best, int64_t* first, double* norm, double* product) {
  float most = -INFINITY;
  int at = 0, i = 0;
  bool numbers = true;
  Wide high = Wide{} - INFINITY;
  WideInts begins{}, wrong{};  // of each lane: which vector its largest is in, whether one is NaN
  for (; i + kWide <= count; i += kWide) {
    const Wide v = wide(x + i);
    const WideInts more = v > high;
    wrong = wrong | (v != v);
    high = more ? v : high;
    begins = more ? WideInts{} + i : begins;
  }
  for (int lane = 0; lane < kWide; ++lane) {
    numbers &= !wrong[lane];
    const int place = begins[lane] + lane;
    if (high[lane] > most || (high[lane] == most && place < at)) most = high[lane], at = place;
  }
  for (; i < count; ++i) {
    numbers &= x[i] == x[i];
    if (x[i] > most) most = x[i], at = i;
  }
  *best = most + 0.0f;  // no negative zero
  *first = at;
  if (!numbers || !(most <= 3.402823466e+38f) || !(most >= -3.402823466e+38f)) return false;
  *norm = *product = 0;
  for (int begin = 0; begin < count; begin += kSumBlock) {
    const int end = least(count, begin + kSumBlock);
    Floats sum{}, sums{};
    const auto more = [&](Floats v) {
      const Floats below = v - most, kept = below < -87.0f ? Floats{} - 87.0f : below;
      const Floats weights = below < -87.0f ? Floats{} : exponential(kept);
      sum = sum + weights, sums = sums + weights * kept;
    };
    for (i = begin; i + kLanes <= end; i += kLanes) more(load(x + i));
    if (i < end) {  // what lies past the end adds nothing
      float rest[kLanes];
      for (float& v : rest) v = -INFINITY;
      std::memcpy(rest, x + i, static_cast<size_t>(end - i) * sizeof(float));
      more(load(rest));
    }
    *norm += static_cast<double>(tree(sum)), *product += static_cast<double>(tree(sums));
  }
  return true;
}

// form(gate, up) of whole vectors, then of what is left.
template <typename Form>
H2Q_INLINE void gated(const float* gate, const float* up, int64_t count, float* out, const Form& form) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(out + i, form(load(gate + i), load(up + i)));
  const int part = static_cast<int>(count - i);
  if (part == 0) return;
  const Floats last = form(load_part(gate + i, part), load_part(up + i, part));
  std::memcpy(out + i, &last, static_cast<size_t>(part) * sizeof(float));
}

void swiglu(const float* gate, const float* up, int64_t count, float* out) {
  gated(gate, up, count, out, [](Floats g, Floats u) { return g / (1.0f + exponential(-g)) * u; });
}

void geglu(const float* gate, const float* up, int64_t count, float* out) {
  gated(gate, up, count, out, [](Floats whole, Floats u) {
    Floats g = whole > 1e4f ? Floats{} + 1e4f : whole;
    g = g < -1e4f ? Floats{} - 1e4f : g;
    const Floats turn = (g + (g * g) * g * 0.044715f) * 0.79788456f;
    return whole / (1.0f + exponential(turn * -2.0f)) * u;
  });
}

void clamped_swiglu(const float* gate, const float* up, int64_t count, float* out) {
  gated(gate, up, count, out, [](Floats g, Floats u) {
    g = g > 7.0f ? Floats{} + 7.0f : g;
    u = u > 7.0f ? Floats{} + 7.0f : u;
    u = u < -7.0f ? Floats{} - 7.0f : u;
    return g / (1.0f + exponential(g * -1.702f)) * (u + 1.0f);
  });
}

void rope(const float* x, const float* cos, const float* sin, int heads, int width, float* out) {
  const int half = width / 2;
  for (int h = 0; h < heads; ++h, x += width, out += width)
    for (int i = 0; i < half; ++i) {
      const float a = x[i], b = x[i + half];
      out[i] = a * cos[i] - b * sin[i];
      out[i + half] = b * cos[i] + a * sin[i];
    }
}

void attend(const AttentionView& a, int batch, int head, int token, float* scores) {
  const int width = a.width, end = a.start + token + 1, shared = head / (a.heads / a.kv_heads);
  const int first = a.window ? most(0, end - a.window) : 0, seen = end - first;
  const int64_t query = (static_cast<int64_t>(batch) * a.tokens + token) * a.heads + head;
  const int64_t cache = (static_cast<int64_t>(batch) * a.kv_heads + shared) * a.capacity + first;
  const float* q = a.q + query * width;
  float best = a.sinks ? a.sinks[head] : -INFINITY;
  for (int p = 0; p < seen; ++p) {
    const float* k = a.k + (cache + p) * width;
    Floats sum{};
    int i = 0;
    for (; i + kLanes <= width; i += kLanes) sum = sum + load(q + i) * load(k + i);
    if (i < width) sum = sum + load_part(q + i, width - i) * load_part(k + i, width - i);
    scores[p] = tree(sum) * a.scale;
    if (a.softcap != 0) {
      const Floats e = exponential(Floats{} + scores[p] / a.softcap * 2.0f);
      scores[p] = a.softcap * (1.0f - 2.0f / (e[0] + 1.0f));
    }
    best = scores[p] > best ? scores[p] : best;
  }
  Floats total{};
  for (int p = 0; p < seen; p += kLanes) {
    const int part = least(kLanes, seen - p);
    Floats e = exponential(load_part(scores + p, part) - best);
    if (part < kLanes) {  // lanes past the end add nothing
      float kept[kLanes] = {};
      std::memcpy(kept, &e, static_cast<size_t>(part) * sizeof(float));
      e = load(kept);
    }
    store(scores + p, e);
    total = total + e;
  }
  float norm = tree(total);
  if (a.sinks) norm = norm + exponential(Floats{} + (a.sinks[head] - best))[0];
  const int wide = a.value_width;
  float* out = a.out + query * wide;
  for (int begin = 0; begin < wide; begin += kLanes) {
    const int part = least(kLanes, wide - begin);
    Floats sum{};
    const float* v = a.v + cache * wide + begin;
    if (part == kLanes)
      for (int p = 0; p < seen; ++p) sum = sum + scores[p] * load(v + static_cast<int64_t>(p) * wide);
    else
      for (int p = 0; p < seen; ++p) sum = sum + scores[p] * load_part(v + static_cast<int64_t>(p) * wide, part);
    const Floats result = sum / norm;
    std::memcpy(out + begin, &result, static_cast<size_t>(part) * sizeof(float));
  }
}
