// Attention over pages of 64 positions: rounding and storing, one page for some queries, joining pages.

constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23: added and taken away, it rounds to whole numbers, ties to even

typedef int16_t WideShorts __attribute__((vector_size(2 * kWide)));

// Codes within +-limit of some floats; the scale that undoes them, or -1 where a value is not finite.
inline float round_floats(const float* x, int count, float limit, int16_t* codes) {
  bool finite;
  const float loudest = loudest_of(x, count, &finite);
  if (!finite) return -1.0f;
  if (loudest < 1e-30f) {
    std::memset(codes, 0, static_cast<size_t>(count) * sizeof(int16_t));
    return 0.0f;
  }
  const float inverse = limit / loudest;
  int i = 0;
  for (; i + kWide <= count; i += kWide) {
    const WideInts code = __builtin_convertvector((wide(x + i) * inverse + kRoundMagic) - kRoundMagic, WideInts);
    store_vector(codes + i, __builtin_convertvector(code, WideShorts));
  }
  for (; i < count; ++i) codes[i] = static_cast<int16_t>((x[i] * inverse + kRoundMagic) - kRoundMagic);
  return loudest / limit;
}

// Clipped to the largest float16, ties to even.
inline uint16_t to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits > 0x477fe000) bits = 0x477fe000;
  if (bits < 0x38800000) {  // below 2^-14 the steps are 2^-24, those of floats from 1/2 on
    float size;
    std::memcpy(&size, &bits, sizeof size);
    size = size + 0.5f;
    std::memcpy(&bits, &size, sizeof bits);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000));
  }
  return static_cast<uint16_t>(sign | (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13);
}

// A row of one head into a slot; false where a value is not finite.
bool store_head(const PagesView& p, const float* k, const float* v, int page, int head, int offset) {
  uint8_t *keys = p.keys_of(page, head), *values = p.values_of(page, head);
  const int width = p.width();
  if (!p.rounded()) {
    bool good, fine;
    loudest_of(k, p.key_dim, &good), loudest_of(v, p.value_dim, &fine);
    if (!good || !fine) return false;
    for (int i = 0; i < p.key_dim; ++i) {
      const uint16_t half = to_half(k[i]);
      std::memcpy(keys + 2 * (i * kPage + offset), &half, 2);
    }
    for (int i = 0; i < p.value_dim; ++i) {
      const uint16_t half = to_half(v[i]);
      std::memcpy(values + 2 * (offset * width + i), &half, 2);
    }
    return true;
  }
  thread_local Scratch<float> rooms;
  thread_local Scratch<int16_t> more;
  float* turned = rooms.reserve(static_cast<size_t>(most(p.key_dim, p.value_dim)));
  int16_t* codes = more.reserve(static_cast<size_t>(most(p.key_dim, p.value_dim)) + 1);
  rotate(p.key_turn, k, turned, false);
  const float key_scale = round_floats(turned, p.key_dim, 127.0f, codes);
  if (key_scale < 0) return false;
  codes[p.key_dim] = 0;
  for (int i = 0; i < p.pairs(); ++i) {
    const int8_t both[2] = {static_cast<int8_t>(codes[2 * i]), static_cast<int8_t>(codes[2 * i + 1])};
    std::memcpy(keys + 2 * (i * kPage + offset), both, 2);
  }
  rotate(p.value_turn, v, turned, false);
  const float value_scale = round_floats(turned, p.value_dim, p.kind == PageKind::k8v8 ? 127.0f : 7.0f, codes);
  if (value_scale < 0) return false;
  if (p.kind == PageKind::k8v8) {
    uint8_t* at = values + offset / 2 * 2 * width + offset % 2;
    for (int i = 0; i < p.value_dim; ++i) at[2 * i] = static_cast<uint8_t>(codes[i]);
  } else {
    uint8_t* at = values + offset / 2 * width;
    const int shift = offset % 2 * 4;
    for (int i = 0; i < p.value_dim; ++i)
      at[i] = static_cast<uint8_t>((at[i] & (0xf0 >> shift)) | (codes[i] + 8) << shift);
  }
  std::memcpy(p.key_scales_of(page, head) + offset, &key_scale, sizeof key_scale);
  std::memcpy(p.value_scales_of(page, head) + offset, &value_scale, sizeof value_scale);
  return true;
}

// Words of query_size and the factor of a query's sums; false where a value is not finite.
bool prepare_query(const PagesView& p, const float* q, float scale, int32_t* words, float* factor) {
  if (!p.rounded()) {
    bool finite;
    loudest_of(q, p.key_dim, &finite);
    std::memcpy(words, q, static_cast<size_t>(p.key_dim) * sizeof(float));
    *factor = scale;
    return finite;
  }
  thread_local Scratch<float> room;
  thread_local Scratch<int16_t> more;
  float* turned = room.reserve(static_cast<size_t>(p.key_dim));
  int16_t* codes = more.reserve(static_cast<size_t>(p.key_dim) + 1);
  rotate(p.key_turn, q, turned, false);
  const float undo = round_floats(turned, p.key_dim, 8191.0f, codes);
  codes[p.key_dim] = 0;
  std::memcpy(words, codes, static_cast<size_t>(p.pairs()) * sizeof(int32_t));
  *factor = undo * scale;
  return undo >= 0;
}

template <int kHalf, int... i>
H2Q_INLINE Wide higher(Wide v, std::integer_sequence<int, i...>) {
  const Wide other = __builtin_shufflevector(v, v, (i ^ kHalf)...);
  return other > v ? other : v;
}
template <int kHalf = kWide / 2>
H2Q_INLINE float highest(Wide v) {
  if constexpr (kHalf > 0) return highest<kHalf / 2>(higher<kHalf>(v, std::make_integer_sequence<int, kWide>{}));
  else return v[0];
}

// Weights of one query from its sums: lanes of their sum and the best score into `state`; float32, or int16 with their
// scale. Positions [from, to) of the page are visible.
template <typename Form>
inline float page_weights(const typename Form::Sum* sums, const float* key_scales, const float* value_scales,
                          float factor, float softcap, int from, int to, float* state, void* weights) {
  constexpr int kCount = kPage / kWide;
  constexpr bool kRounded = sizeof(typename Form::Stored) == 1;
  Wide scores[kCount], best = Wide{} - INFINITY;
  WideInts lane;
  for (int i = 0; i < kWide; ++i) lane[i] = i;
  const bool part = from > 0 || to < kPage;
  for (int i = 0; i < kCount; ++i) {
    const auto sum = load_vector<typename Form::Sums>(sums + i * kWide);
    Wide s = __builtin_convertvector(sum, Wide);
    if constexpr (kRounded) s = s * wide(key_scales + i * kWide) * factor;
    else s = s * factor;
    if (softcap != 0) s = softcap * (1.0f - 2.0f / (exponential(s / softcap * 2.0f) + 1.0f));
    scores[i] = s;
    if (part) s = ((lane + i * kWide >= from) & (lane + i * kWide < to)) ? s : Wide{} - INFINITY;
    best = s > best ? s : best;
  }
  const float loudest = highest(best);
  for (int i = 0; i < kCount; ++i) {
    scores[i] = exponential(scores[i] - loudest);
    if (part) scores[i] = ((lane + i * kWide >= from) & (lane + i * kWide < to)) ? scores[i] : Wide{};
  }
  constexpr int kParts = kLanes / kWide;
  for (int j = 0; j < kParts; ++j) {
    Wide total{};
    for (int i = j; i < kCount; i += kParts) total = total + scores[i];
    store_vector(state + j * kWide, total);
  }
  state[kLanes] = loudest;
  if constexpr (kRounded) {
    Wide loud{};
    for (int i = 0; i < kCount; ++i) {
      scores[i] = scores[i] * wide(value_scales + i * kWide);
      loud = scores[i] > loud ? scores[i] : loud;
    }
    const float size = highest(loud);
    const float inverse = size < 1e-30f ? 0.0f : 32767.0f / size;
    for (int i = 0; i < kCount; ++i) {
      const WideInts code = __builtin_convertvector((scores[i] * inverse + kRoundMagic) - kRoundMagic, WideInts);
      store_vector(static_cast<int16_t*>(weights) + i * kWide, __builtin_convertvector(code, WideShorts));
    }
    return size < 1e-30f ? 0.0f : size / 32767.0f;
  } else {
    for (int i = 0; i < kCount; ++i) store_vector(static_cast<float*>(weights) + i * kWide, scores[i]);
    return 1.0f;
  }
}

// Four-bit values as int8 (32, width, 2); `ahead` as in product_sums.
inline void widen_values(const uint8_t* values, int width, int8_t* out, const uint8_t* ahead) {
  for (int from = 0; from < kPage / 2 * width; from += 64, values += 64, out += 128) {
    if (ahead) __builtin_prefetch(ahead + from, 0, 2);
    for (int i = 0; i < 64; ++i) {
      out[2 * i] = static_cast<int8_t>((values[i] & 15) - 8);
      out[2 * i + 1] = static_cast<int8_t>((values[i] >> 4) - 8);
    }
  }
}

template <typename Form>
inline void page_form(const PagesView& p, const QueriesView& q, int from, int to, int index, int page, int next, int head,
                      float* states) {
  typedef typename Form::Sum Sum;
  typedef typename Form::Stored Stored;
  constexpr bool kRounded = sizeof(Stored) == 1;
  constexpr int kWeights = kRounded ? kPage / 2 : kPage;  // words of four bytes
  thread_local Scratch<Sum> room;
  thread_local Scratch<int32_t> more;
  thread_local Scratch<int8_t> wider;
  const int width = p.width(), count = to - from, size = p.query_size();
  Sum* sums = room.reserve(static_cast<size_t>(count) * static_cast<size_t>(most(kPage, width)));
  int32_t* weights = more.reserve(static_cast<size_t>(count) * (kWeights + 1));
  float* scales = reinterpret_cast<float*>(weights + count * kWeights);
  const auto stored = [](const uint8_t* bytes) { return reinterpret_cast<const Stored*>(bytes); };
  product_sums<Form>(q.words + static_cast<int64_t>(from) * size, size, count, stored(p.keys_of(page, head)), kPage, size,
                     sums, next < 0 ? nullptr : stored(p.keys_of(next, head)));
  const float *key_scales = nullptr, *value_scales = nullptr;
  if (kRounded) {
    key_scales = p.key_scales_of(page, head), value_scales = p.value_scales_of(page, head);
    for (int i = 0; next >= 0 && i < kPage; i += 16) {
      __builtin_prefetch(p.key_scales_of(next, head) + i, 0, 2);
      __builtin_prefetch(p.value_scales_of(next, head) + i, 0, 2);
    }
  }
  for (int i = 0; i < count; ++i)
    scales[i] = page_weights<Form>(sums + i * kPage, key_scales, value_scales, q.factors[from + i], q.softcap,
                                   q.first[from + i] - index * kPage, q.end[from + i] - index * kPage,
                                   states + static_cast<int64_t>(i) * p.state_size(), weights + i * kWeights);
  const Stored *values = stored(p.values_of(page, head)), *ahead = next < 0 ? nullptr : stored(p.values_of(next, head));
  if constexpr (kRounded)
    if (p.kind == PageKind::k8v4) {
      int8_t* to_read = wider.reserve(static_cast<size_t>(kPage) * static_cast<size_t>(width));
      widen_values(p.values_of(page, head), width, to_read, next < 0 ? nullptr : p.values_of(next, head));
      values = to_read, ahead = nullptr;
    }
  product_sums<Form>(weights, kWeights, count, values, width, kWeights, sums, ahead);
  for (int i = 0; i < count; ++i) {
    float* out = states + static_cast<int64_t>(i) * p.state_size() + kStateHead;
    for (int d = 0; d < width; d += kWide) {
      const auto sum = load_vector<typename Form::Sums>(sums + i * width + d);
      store_vector(out + d, kRounded ? __builtin_convertvector(sum, Wide) * scales[i] : __builtin_convertvector(sum, Wide));
    }
  }
}

// What logical page `index` gives queries [from, to), all of which see some of it: a state for each. Page `next`, unless
// it is negative, comes after it.
void page_part(const PagesView& p, const QueriesView& q, int from, int to, int index, int page, int next, int head,
               float* states) {
  if (p.rounded()) page_form<PairForm>(p, q, from, to, index, page, next, head, states);
  else page_form<HalfForm>(p, q, from, to, index, page, next, head, states);
}

void join_pages(const PagesView& p, const float* part, float* state) {
  const float best = state[kLanes], loudest = part[kLanes], most = loudest > best ? loudest : best;
  const Wide shares = exponential(Wide{best - most, loudest - most});
  const float old = shares[0], now = shares[1];
  const auto join = [&](int i) { store_vector(state + i, wide(state + i) * old + wide(part + i) * now); };
  for (int i = 0; i < kLanes; i += kWide) join(i);
  for (int i = kStateHead; i < p.state_size(); i += kWide) join(i);
  state[kLanes] = most;
}

// sink: of the query's head, or null.
void finish_query(const PagesView& p, const float* state, const float* sink, float* out) {
  float total = tree(load(state));
  if (sink) total = total + exponential(Floats{} + (*sink - state[kLanes]))[0];
  for (int i = 0; i < p.value_dim; ++i) out[i] = state[kStateHead + i] / total;
  if (p.rounded()) rotate(p.value_turn, out, out, true);
}
