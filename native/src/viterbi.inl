// Viterbi over 4,096 states of several trellises at once, one per vector element: nothing is shuffled, and one source
// serves every vector width. With state s' = (s << K | symbol), all successors in group p = s' >> K come from the same
// states p + j * G, G = 4096 >> K, so only the best cost of each group is kept:
//   best'[p] = min over j of best[(p + j * G) >> K] + distance(p + j * G)          (lowest j wins a tie)
// The map from states to levels is linear, so the index of a state is the exclusive or of its parts' shares.

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

// Some steps are taken at once on a block of N groups that no other block has to do with, so that costs pass through
// the first cache once for all of them: with p = (j, r), j the highest symbols, one per step, and r the rest, the N
// groups of one r become (r, q), q the new symbols. On the way a group is (what is left of j, r, q so far), its number
// within the block the same without r.
template <int kBits, int kLanes, int kDepth>
struct BlockMap {
  static constexpr int kGroups = kStates >> kBits, kWays = 1 << kBits, kSize = 1 << (kBits * kDepth);
  static constexpr int kRows = kGroups / kSize;  // values of r
  uint32_t row[kDepth][kRows];                   // shares of the offset among the distances
  uint32_t part[kDepth][kSize][kWays];

  explicit BlockMap(const CodeTables& t) {
    for (int step = 0; step < kDepth; ++step) {
      const int below = kBits * (step + 1);
      for (int r = 0; r < kRows; ++r) row[step][r] = offset(t, r << below);
      for (int n = 0; n < kSize; ++n)
        for (int j = 0; j < kWays; ++j)
          part[step][n][j] = offset(t, (n >> below) * kRows << below | (n & ((1 << below) - 1)) | j * kGroups);
    }
  }
  static uint32_t offset(const CodeTables& t, int state) {
    int index = 0;
    for (int b = 0; b < kWindow; ++b)
      if (state >> b & 1) index ^= t.columns[b];
    return static_cast<uint32_t>(index * kLanes);
  }
};

// A line of costs is left out after every sixteenth of the groups: streams a power of two apart share few cache sets.
template <int kBits>
constexpr int place(int group) {
  return group + group / ((kStates >> kBits) / kSpareCosts);
}

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

// kDepth steps. A word of choices holds 16 / K groups, the first in the highest bits, in the order of blocks.
template <int kBits, int kLanes, int kDepth>
inline void advance(const BlockMap<kBits, kLanes, kDepth>& map, const int16_t* best, const int16_t* distances,
                    int16_t* next, int16_t* choices) {
  using V = Costs<kLanes>;
  using Map = BlockMap<kBits, kLanes, kDepth>;
  constexpr int kWays = Map::kWays, kSize = Map::kSize, kFamilies = kSize / kWays, kPerWord = 16 / kBits;
  constexpr int kShare = kPerWord > kSize ? kPerWord / kSize : 1;  // blocks of a word
  constexpr int16_t kChoice = kWays - 1;
  V choice{};
  for (int r = 0; r < Map::kRows; ++r) {
    V now[kSize], then[kSize];
#pragma GCC unroll 16
    for (int n = 0; n < kSize; ++n) now[n] = load_vector<V>(best + place<kBits>(n * Map::kRows + r) * kLanes);
#pragma GCC unroll 4
    for (int step = 0; step < kDepth; ++step) {
      const int16_t* distance = distances + step * 32 * kLanes;
      const size_t row = map.row[step][r];
#pragma GCC unroll 8
      for (int m = 0; m < kFamilies; ++m) {
        V old[kWays];
#pragma GCC unroll 4
        for (int j = 0; j < kWays; ++j)
          old[j] = (now[m + j * kFamilies] & static_cast<int16_t>(~kChoice)) | static_cast<int16_t>(j);
#pragma GCC unroll 4
        for (int q = 0; q < kWays; ++q) {
          const int n = m * kWays + q;
          auto cost = [&](int j) { return old[j] + load_vector<V>(distance + (row ^ map.part[step][n][j])); };
          const V a = cost(0), b = cost(1);
          V least = b < a ? b : a;
          if constexpr (kBits == 2) {
            const V c = cost(2), d = cost(3), other = d < c ? d : c;
            least = other < least ? other : least;
          }
          then[n] = least;
          choice = (choice << kBits) | (least & kChoice);
          if (n % kPerWord == kPerWord - 1)
            store_vector(choices + (step * kChoiceWords + (r * kSize + n) / kPerWord) * kLanes, choice);
        }
      }
#pragma GCC unroll 16
      for (int n = 0; n < kSize; ++n) now[n] = then[n];
    }
    if (kShare > 1 && r % kShare == kShare - 1) store_vector(choices + r / kShare * kLanes, choice);
#pragma GCC unroll 16
    for (int n = 0; n < kSize; ++n) store_vector(next + place<kBits>(r * kSize + n) * kLanes, now[n]);
  }
}

// The symbols by which groups were reached in the given step of kDepth, one per lane: where they lie, then all loads,
// then what is in the words, so that compilers take whole vectors for all but the loads.
template <int kBits, int kLanes, int kDepth>
inline void choices_of(const int16_t* choices, int step, const int* group, int* choice) {
  using Map = BlockMap<kBits, kLanes, kDepth>;
  constexpr int kPerWord = 16 / kBits;
  const int below = kBits * (step + 1);
  alignas(64) int place[kLanes], word[kLanes], drop[kLanes];
  for (int l = 0; l < kLanes; ++l) {
    const unsigned rest = static_cast<unsigned>(group[l]) >> below, low = group[l] & ((1 << below) - 1);
    const unsigned n = rest / Map::kRows << below | low, at = rest % Map::kRows * Map::kSize + n;
    place[l] = static_cast<int>((step * kChoiceWords + at / kPerWord) * kLanes) + l;
    drop[l] = static_cast<int>(16 - kBits - kBits * (at % kPerWord));
  }
  for (int l = 0; l < kLanes; ++l) word[l] = static_cast<uint16_t>(choices[place[l]]);
  for (int l = 0; l < kLanes; ++l) choice[l] = word[l] >> drop[l] & ((1 << kBits) - 1);
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

template <int kBits, int kLanes>
class Search {
 public:
  Search(const CodeTables& t, const SearchJob& job)
      : t_(t), job_(job), now_(job.costs), next_(job.costs + kLines * kLanes) {
    for (int i = 0; i < 2 * kLines * kLanes; ++i) job.costs[i] = kStranger;
    for (int l = 0; l < kLanes; ++l) now_[place<kBits>(job.start[l] & (kGroups - 1)) * kLanes + l] = kZero;
  }

  void run() {
    if (job_.group % kBlock == 0) blocks_ = job_.steps / kBlock * kBlock;  // a listener hears of whole blocks
    const BlockMap<kBits, kLanes, kBlock> map(t_);
    const BlockMap<kBits, kLanes, 1> single(t_);
    for (int done = 0; done < job_.steps;) {
      done = done < blocks_ ? take(map, done) : take(single, done);
      if (job_.group == 0 || done % job_.group != 0 || done == job_.steps) continue;
      trace_back(done - 1, done > kRevised ? done - kRevised : 0, job_.steps, done - job_.group);
      job_.listener(job_.context, done);
    }
    trace_back(job_.steps - 1, 0, job_.keep, 0);
  }

 private:
  static constexpr int kGroups = kStates >> kBits, kLines = kGroups + kSpareCosts, kEvery = renormalise_every(kBits);
  static constexpr int kBlock = 4 / kBits;  // steps taken at once: sixteen groups a block
  static constexpr int16_t kChoice = (1 << kBits) - 1;
  static constexpr int16_t kStranger = static_cast<int16_t>(kZero + (start_penalty(kBits) << kBits));
  static_assert(kEvery % kBlock == 0);

  int16_t* choices(int step) const { return job_.choices + static_cast<size_t>(step) * kChoiceWords * kLanes; }

  // kDepth steps from `step` on; returns the next.
  template <int kDepth>
  int take(const BlockMap<kBits, kLanes, kDepth>& map, int step) {
    for (int i = 0; i < kDepth; ++i) {
      fill_distances<kBits, kLanes>(t_, job_.targets + (step + i) * kLanes, above_, distances_ + i * 32 * kLanes);
      store_vector(above_, Costs<kLanes>{});
    }
    advance(map, now_, distances_, next_, choices(step));
    int16_t* swap = now_;
    now_ = next_, next_ = swap;
    step += kDepth;
    if (step % kEvery == 0) {
      // Until every state is reached from the start, paths from elsewhere would outgrow their bits.
      if (step <= kWindow / kBits) cap_costs<kLanes>(now_, kLines, kStranger);
      store_vector(above_, (least_costs<kLanes>(now_, kLines) & static_cast<int16_t>(~kChoice)) -
                               static_cast<int16_t>(kZero));
    }
    return step;
  }

  // The cheapest state of each lane; among equals the lowest, whose high bits are the choice.
  void ends(int* state) const {
    using V = Costs<kLanes>;
    auto least = load_vector<V>(now_);
    V where{};
    for (int p = 1; p < kGroups; ++p) {
      const auto v = load_vector<V>(now_ + place<kBits>(p) * kLanes);
      where = v < least ? V{} + static_cast<int16_t>(p) : where;
      least = v < least ? v : least;
    }
    alignas(64) int16_t group[kLanes], choice[kLanes];
    store_vector(group, where);
    store_vector(choice, least & kChoice);
    for (int l = 0; l < kLanes; ++l) state[l] = group[l] + choice[l] * kGroups;
  }

  // The best path that ends after step `last`, back to step `first`; what lies before `keep` is written down. Where it
  // meets the path that was written last, up to step `known`, and no further back than this one goes, the rest is there.
  void trace_back(int last, int first, int keep, int known) const {
    int state[kLanes];
    ends(state);
    for (int step = last;; --step) {
      if (step < known) {
        int apart = 0;
        for (int l = 0; l < kLanes; ++l) apart |= state[l] ^ job_.path[step * kLanes + l];
        if (apart == 0) return;
      }
      if (step < keep)
        for (int l = 0; l < kLanes; ++l) job_.path[step * kLanes + l] = static_cast<uint16_t>(state[l]);
      if (step == first) return;
      if (step - 1 < blocks_) back<kBlock>(step - 1, state);
      else back<1>(step - 1, state);
    }
  }

  // From the states after a step to those after the one before, whose choices tell the way.
  template <int kDepth>
  void back(int step, int* state) const {
    alignas(64) int group[kLanes], choice[kLanes];
    for (int l = 0; l < kLanes; ++l) group[l] = state[l] >> kBits;
    choices_of<kBits, kLanes, kDepth>(choices(step - step % kDepth), step % kDepth, group, choice);
    for (int l = 0; l < kLanes; ++l) state[l] = group[l] + choice[l] * kGroups;
  }

  const CodeTables& t_;
  const SearchJob& job_;
  int16_t *now_, *next_;
  int blocks_ = 0;  // steps that are taken in blocks
  alignas(64) int16_t distances_[kBlock * 32 * kLanes], above_[kLanes] = {};
};

template <int kLanes>
void search_bits(const CodeTables& t, const SearchJob& job) {
  if (t.bits == 2) Search<2, kLanes>(t, job).run();
  else Search<1, kLanes>(t, job).run();
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
