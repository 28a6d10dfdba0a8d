// Multiply-adds from registers to registers, as fast as the path's dot goes; what a benchmark holds products against.
// Every dot of a round meets another pair of weights and inputs, and the compiler does not know what they are, so that it
// can neither leave dots out nor share work between them.

constexpr int kOnes = 4;  // different registers of weights, and of inputs

template <int... i>
inline int64_t repeat_dots(int64_t rounds, std::integer_sequence<int, i...>) {
  alignas(64) uint8_t ones[kOnes * kWidth];
  int8_t fours[4 * kOnes];
  for (auto& one : ones) one = 1;
  for (auto& four : fours) four = 1;
  const uint8_t* weights = ones;
  const int8_t* inputs = fours;
  Sums sum[] = {(static_cast<void>(i), no_sums())...};
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : "+r"(weights), "+r"(inputs));
    const Bytes levels[kOnes] = {load_levels(weights), load_levels(weights + kWidth), load_levels(weights + 2 * kWidth),
                                 load_levels(weights + 3 * kWidth)};
    const Four x[kOnes] = {broadcast(inputs), broadcast(inputs + 4), broadcast(inputs + 8), broadcast(inputs + 12)};
    ((sum[i] = dot(sum[i], levels[i % kOnes], x[i / kOnes % kOnes])), ...);
  }
  int32_t kept[kWidth / 4] = {};
  (add_sums(kept, sum[i]), ...);
  return kept[0] == static_cast<int32_t>(4 * sizeof...(i) * rounds) ? int64_t{kWidth} * sizeof...(i) * rounds : 0;
}

int64_t dots(int64_t rounds) { return repeat_dots(rounds, std::make_integer_sequence<int, kBudget>{}); }
