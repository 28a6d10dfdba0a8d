// Viterbi over 4,096 states of several trellises at once, one per vector element: nothing is shuffled, and one source
// serves every vector width. With state s' = (s << K | symbol), all successors in group p = s' >> K come from the same
// states p + j * G, G = 4096 >> K, so only the best cost of each group is kept:
//   best'[p] = min over j of best[(p + j * G) >> K] + distance(p + j * G)          (lowest j wins a tie)
// Groups p = (m << K | q) of one family m read the same 2^K old costs, and the map from states to levels is linear, so
// the index of a state is base[m] ^ part[q][j].

// Vectors no wider than the path's registers: GCC takes comparisons of wider ones apart, element by element.
template <int kLanes>
struct VectorOf;
template <>
struct VectorOf<8> {
  typedef int16_t Costs __attribute__((vector_size(16)));
};
template <>
struct VectorOf<16> {
  typedef int16_t Costs __attribute__((vector_size(32)));
};
template <>
struct VectorOf<32> {
  typedef int16_t Costs __attribute__((vector_size(64)));
};
template <int kLanes>
using Costs = typename VectorOf<kLanes>::Costs;

template <int kBits, int kLanes>
struct IndexMap {
  static constexpr int kGroups = kStates >> kBits, kWays = 1 << kBits, kFamilies = kGroups >> kBits;
  uint16_t base[kFamilies], part[kWays][kWays];  // element at which an index's distances begin

  explicit IndexMap(const CodeTables& t) {
    for (int m = 0; m < kFamilies; ++m) base[m] = begin(t, m << kBits);
    for (int q = 0; q < kWays; ++q)
      for (int j = 0; j < kWays; ++j) part[q][j] = begin(t, q + j * kGroups);
  }
  static uint16_t begin(const CodeTables& t, int state) {
    int index = 0;
    for (int b = 0; b < kWindow; ++b)
      if (state >> b & 1) index ^= t.columns[b];
    return static_cast<uint16_t>(index * kLanes);
  }
};

// A cost is a multiple of 2^K above kZero; its low bits tell the predecessor it came by, so that the least of the
// candidates carries its choice along and equal ones go to the lowest.
constexpr int kZero = -32768;

// out: (32, lanes), less what the costs before are above zero.
template <int kBits, int kLanes>
inline void fill_distances(const CodeTables& t, const float* x, const int16_t* above, int16_t* out) {
  constexpr float kFactor = cost_rule(kBits).factor, kCap = static_cast<float>(cost_rule(kBits).cap);
  float near[kLanes], common[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const float low = x[l] < kFarthest ? x[l] : kFarthest;
    near[l] = low > -kFarthest ? low : -kFarthest;
    const float beyond = (near[l] < 0 ? -near[l] : near[l]) - kOutermost;
    common[l] = beyond > 0 ? beyond * beyond : 0.0f;
  }
  for (int i = 0; i < 32; ++i) {
    const float level = static_cast<float>(t.levels[i]);
    for (int l = 0; l < kLanes; ++l) {
      const float e = near[l] - level;
      float v = (e * e - common[l]) * kFactor;
      v = v < kCap ? v : kCap;
      out[i * kLanes + l] = static_cast<int16_t>((static_cast<int>(v + 0.5f) << kBits) - above[l]);
    }
  }
}

// One step. A word of choices holds 16 / K groups, the first in the highest bits.
template <int kBits, int kLanes>
inline void advance(const IndexMap<kBits, kLanes>& map, const int16_t* best, const int16_t* distances, int16_t* next,
                    int16_t* choices) {
  using V = Costs<kLanes>;
  constexpr int kWays = 1 << kBits, kFamilies = kStates >> (2 * kBits), kPerWord = 16 / kBits / kWays;
  constexpr int16_t kChoice = kWays - 1;
  for (int word = 0; word < kFamilies / kPerWord; ++word) {
    V choice{};
#pragma GCC unroll 1
    for (int m = word * kPerWord; m < (word + 1) * kPerWord; ++m) {
      V old[kWays];
#pragma GCC unroll 4
      for (int j = 0; j < kWays; ++j)
        old[j] = (load_vector<V>(best + (m + j * kFamilies) * kLanes) & static_cast<int16_t>(~kChoice)) |
                 static_cast<int16_t>(j);
#pragma GCC unroll 4
      for (int q = 0; q < kWays; ++q) {
        auto cost = [&](int j) { return old[j] + load_vector<V>(distances + (map.base[m] ^ map.part[q][j])); };
        const V a = cost(0), b = cost(1);
        V least = b < a ? b : a;
        if constexpr (kBits == 2) {
          const V c = cost(2), d = cost(3), other = d < c ? d : c;
          least = other < least ? other : least;
        }
        choice = (choice << kBits) | (least & kChoice);
        store_vector(next + ((m << kBits) + q) * kLanes, least);
      }
    }
    store_vector(choices + word * kLanes, choice);
  }
}

template <int kBits, int kLanes>
inline int choice_of(const int16_t* choices, int group, int lane) {
  constexpr int kPerWord = 16 / kBits;
  const unsigned word = static_cast<uint16_t>(choices[group / kPerWord * kLanes + lane]);
  return static_cast<int>(word >> (16 - kBits - kBits * (group % kPerWord))) & ((1 << kBits) - 1);
}

template <int kLanes>
inline Costs<kLanes> least_costs(const int16_t* costs, int groups) {
  auto least = load_vector<Costs<kLanes>>(costs);
  for (int p = 1; p < groups; ++p) {
    const auto v = load_vector<Costs<kLanes>>(costs + p * kLanes);
    least = v < least ? v : least;
  }
  return least;
}

template <int kLanes>
inline void cap_costs(int16_t* costs, int groups, int16_t cap) {
  for (int p = 0; p < groups; ++p) {
    const auto v = load_vector<Costs<kLanes>>(costs + p * kLanes);
    store_vector(costs + p * kLanes, v < cap ? v : Costs<kLanes>{} + cap);
  }
}

// The cheapest state of each lane; among equals the lowest, whose high bits are the choice.
template <int kBits, int kLanes>
inline void cheapest_states(const int16_t* costs, int* state) {
  using V = Costs<kLanes>;
  constexpr int kGroups = kStates >> kBits;
  auto least = load_vector<V>(costs);
  V where{};
  for (int p = 1; p < kGroups; ++p) {
    const auto v = load_vector<V>(costs + p * kLanes);
    where = v < least ? V{} + static_cast<int16_t>(p) : where;
    least = v < least ? v : least;
  }
  alignas(64) int16_t group[kLanes], choice[kLanes];
  store_vector(group, where);
  store_vector(choice, least & static_cast<int16_t>((1 << kBits) - 1));
  for (int l = 0; l < kLanes; ++l) state[l] = group[l] + choice[l] * kGroups;
}

// From the states after step `last` back to step `first`; what lies before `keep` is written down.
template <int kBits, int kLanes>
inline void trace_back(const SearchJob& job, int* state, int last, int first, int keep) {
  constexpr int kGroups = kStates >> kBits;
  const int16_t* choices = job.choices + static_cast<size_t>(last) * kChoiceWords * kLanes;
  for (int step = last;; --step) {
    if (step < keep)
      for (int l = 0; l < kLanes; ++l) job.path[step * kLanes + l] = static_cast<uint16_t>(state[l]);
    if (step == first) return;
    choices -= kChoiceWords * kLanes;
    for (int l = 0; l < kLanes; ++l) {
      const int group = state[l] >> kBits;
      state[l] = group + choice_of<kBits, kLanes>(choices, group, l) * kGroups;
    }
  }
}

template <int kBits, int kLanes>
void search_lanes(const CodeTables& t, const SearchJob& job) {
  constexpr int kGroups = kStates >> kBits, kEvery = renormalise_every(kBits);
  constexpr int16_t kChoice = (1 << kBits) - 1;
  constexpr int16_t kStranger = static_cast<int16_t>(kZero + (start_penalty(kBits) << kBits));
  const IndexMap<kBits, kLanes> map(t);
  int16_t *now = job.costs, *next = job.costs + kGroups * kLanes;
  for (int i = 0; i < kGroups * kLanes; ++i) now[i] = kStranger;
  for (int l = 0; l < kLanes; ++l) now[(job.start[l] & (kGroups - 1)) * kLanes + l] = kZero;
  alignas(64) int16_t distances[32 * kLanes], above[kLanes] = {};
  int state[kLanes];
  for (int step = 0; step < job.steps; ++step) {
    fill_distances<kBits, kLanes>(t, job.targets + step * kLanes, above, distances);
    advance(map, now, distances, next, job.choices + static_cast<size_t>(step) * kChoiceWords * kLanes);
    int16_t* swap = now;
    now = next, next = swap;
    Costs<kLanes> excess{};
    if (step % kEvery == kEvery - 1) {
      // Until every state is reached from the start, paths from elsewhere would outgrow their bits.
      if (step < kWindow / kBits) cap_costs<kLanes>(now, kGroups, kStranger);
      excess = (least_costs<kLanes>(now, kGroups) & static_cast<int16_t>(~kChoice)) - static_cast<int16_t>(kZero);
    }
    store_vector(above, excess);
    if (const int done = step + 1; job.group && done % job.group == 0 && done < job.steps) {
      cheapest_states<kBits, kLanes>(now, state);
      trace_back<kBits, kLanes>(job, state, step, done > kRevised ? done - kRevised : 0, job.steps);
      job.listener(job.context, done);
    }
  }
  cheapest_states<kBits, kLanes>(now, state);
  trace_back<kBits, kLanes>(job, state, job.steps - 1, 0, job.keep);
}

template <int kLanes>
void search_bits(const CodeTables& t, const SearchJob& job) {
  if (t.bits == 2) search_lanes<2, kLanes>(t, job);
  else search_lanes<1, kLanes>(t, job);
}

void search(const CodeTables& t, const SearchJob& job) {
  if (job.lanes == 8) return search_bits<8>(t, job);
#if H2Q_AVX2 || H2Q_AVX512
  if (job.lanes == 16) return search_bits<16>(t, job);
#endif
#if H2Q_AVX512
  search_bits<32>(t, job);
#endif
}
