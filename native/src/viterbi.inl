// Viterbi over 4,096 states. With state s' = (s << bits | symbol) the predecessors of group p = s' >> bits are p + j * P,
// P = 4096 >> bits: contiguous runs. The map from state to level is linear, so the indices of 32 states in a row are one
// fixed pattern exclusive-or a constant: a step needs 32 permuted copies of 32 distances and no gathers.

typedef int16_t Costs __attribute__((vector_size(64)));
typedef int8_t Choices __attribute__((vector_size(32)));

inline Costs load_costs(const int16_t* p) {
  Costs v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Every one of four (two) successors inherits the best cost of its group.
template <int kBits, int kPart>
inline Costs spread_costs(Costs v) {
  if constexpr (kBits == 2) {
    constexpr int o = kPart * 8;
    return __builtin_shufflevector(v, v, o, o, o, o, o + 1, o + 1, o + 1, o + 1, o + 2, o + 2, o + 2, o + 2, o + 3,
                                   o + 3, o + 3, o + 3, o + 4, o + 4, o + 4, o + 4, o + 5, o + 5, o + 5, o + 5, o + 6,
                                   o + 6, o + 6, o + 6, o + 7, o + 7, o + 7, o + 7);
  } else {
    constexpr int o = kPart * 16;
    return __builtin_shufflevector(v, v, o, o, o + 1, o + 1, o + 2, o + 2, o + 3, o + 3, o + 4, o + 4, o + 5, o + 5,
                                   o + 6, o + 6, o + 7, o + 7, o + 8, o + 8, o + 9, o + 9, o + 10, o + 10, o + 11,
                                   o + 11, o + 12, o + 12, o + 13, o + 13, o + 14, o + 14, o + 15, o + 15);
  }
}

struct IndexMap {
  uint8_t pattern[32], base[128];
  explicit IndexMap(const CodeTables& t) {
    for (int i = 0; i < 32; ++i) pattern[i] = static_cast<uint8_t>(index(t, i));
    for (int o = 0; o < 128; ++o) base[o] = static_cast<uint8_t>(index(t, o << 5));
  }
  static int index(const CodeTables& t, int state) {
    int out = 0;
    for (int b = 0; b < kWindow; ++b)
      if (state >> b & 1) out ^= t.columns[b];
    return out;
  }
};

inline void fill_distances(const CodeTables& t, const IndexMap& map, CostRule rule, float x, int16_t (*out)[32]) {
  alignas(64) int16_t plain[32];
  for (int i = 0; i < 32; ++i) {
    const float e = x - static_cast<float>(t.levels[i]);
    float v = e * e * rule.factor;
    v = v < rule.cap ? v : rule.cap;
    plain[i] = static_cast<int16_t>(v + 0.5f);
  }
#if H2Q_AVX512
  alignas(64) int16_t wide[32];
  for (int i = 0; i < 32; ++i) wide[i] = map.pattern[i];
  const __m512i pattern = _mm512_load_si512(wide), values = _mm512_load_si512(plain);
  for (int k = 0; k < 32; ++k) {
    const __m512i order = _mm512_xor_si512(pattern, _mm512_set1_epi16(static_cast<int16_t>(k)));
    _mm512_store_si512(out[k], _mm512_permutexvar_epi16(order, values));
  }
#else
  for (int k = 0; k < 32; ++k)
    for (int i = 0; i < 32; ++i) out[k][i] = plain[map.pattern[i] ^ k];
#endif
}

template <int kBits, int kPart>
inline void successors(const IndexMap& map, const int16_t (*distances)[32], Costs best, int block, int16_t* next) {
  const int at = (block << kBits) + kPart;
  const Costs cost = spread_costs<kBits, kPart>(best) + load_costs(distances[map.base[at]]);
  std::memcpy(next + 32 * at, &cost, sizeof cost);
}

template <int kBits>
void viterbi_bits(const CodeTables& t, ViterbiScratch& scratch, const float* x, int steps, int start, int keep,
                  uint16_t* states) {
  constexpr int kGroups = kStates >> kBits;
  constexpr CostRule kRule = cost_rule(kBits);
  const IndexMap map(t);
  int16_t *now = scratch.costs[0], *next = scratch.costs[1];
  const int16_t penalty = static_cast<int16_t>(kWindow / kBits * static_cast<int>(kRule.cap) + 1);
  for (int s = 0; s < kStates; ++s) now[s] = penalty;
  now[start] = 0;
  for (int step = 0; step < steps; ++step) {
    fill_distances(t, map, kRule, x[step], scratch.distances);
    uint8_t* arguments = scratch.arguments + static_cast<size_t>(step) * kGroups;
    for (int block = 0; block < kGroups / 32; ++block) {
      const int p = 32 * block;
      Costs best, choice;
      if constexpr (kBits == 2) {
        const Costs a = load_costs(now + p), b = load_costs(now + kGroups + p);
        const Costs c = load_costs(now + 2 * kGroups + p), d = load_costs(now + 3 * kGroups + p);
        const Costs ab = b < a ? b : a, cd = d < c ? d : c;
        const Costs zero{};
        const Costs jab = (b < a) & (zero + 1), jcd = ((d < c) & (zero + 1)) + 2;
        best = cd < ab ? cd : ab;
        choice = cd < ab ? jcd : jab;
      } else {
        const Costs a = load_costs(now + p), b = load_costs(now + kGroups + p);
        const Costs zero{};
        best = b < a ? b : a;
        choice = (b < a) & (zero + 1);
      }
      const Choices narrow = __builtin_convertvector(choice, Choices);
      std::memcpy(arguments + p, &narrow, sizeof narrow);
      successors<kBits, 0>(map, scratch.distances, best, block, next);
      successors<kBits, 1>(map, scratch.distances, best, block, next);
      if constexpr (kBits == 2) {
        successors<kBits, 2>(map, scratch.distances, best, block, next);
        successors<kBits, 3>(map, scratch.distances, best, block, next);
      }
    }
    int16_t* swap = now;
    now = next, next = swap;
    if (step % kRenormalise == kRenormalise - 1) {
      Costs low = load_costs(now);
      for (int s = 32; s < kStates; s += 32) {
        const Costs v = load_costs(now + s);
        low = v < low ? v : low;
      }
      int16_t least_cost = low[0];
      for (int i = 1; i < 32; ++i) least_cost = low[i] < least_cost ? low[i] : least_cost;
      for (int s = 0; s < kStates; ++s) now[s] = static_cast<int16_t>(now[s] - least_cost);
    }
  }
  int state = 0;
  for (int s = 1; s < kStates; ++s)
    if (now[s] < now[state]) state = s;
  for (int step = steps - 1; step >= 0; --step) {
    if (step < keep) states[step] = static_cast<uint16_t>(state);
    const int group = state >> kBits;
    state = group + scratch.arguments[static_cast<size_t>(step) * kGroups + static_cast<size_t>(group)] * kGroups;
  }
}

void viterbi(const CodeTables& t, ViterbiScratch& scratch, const float* x, int steps, int start, int keep,
             uint16_t* states) {
  if (t.bits == 2) viterbi_bits<2>(t, scratch, x, steps, start, keep, states);
  else viterbi_bits<1>(t, scratch, x, steps, start, keep, states);
}
