// Multiply-adds on what lies in the first cache, as fast as the path's dot goes; what a benchmark holds products against.
template <int... i>
inline int64_t repeat_dots(int64_t rounds, std::integer_sequence<int, i...>) {
  alignas(64) uint8_t ones[kWidth];
  int8_t fours[4 * sizeof...(i)];
  std::memset(ones, 1, sizeof ones);
  std::memset(fours, 1, sizeof fours);
  Sums sum[] = {(static_cast<void>(i), no_sums())...};
  for (int64_t round = 0; round < rounds; ++round) {
    asm volatile("" : : "r"(ones), "r"(fours) : "memory");  // as if they had changed: no product is reused
    const Bytes levels = load_levels(ones);
    ((sum[i] = dot(sum[i], levels, broadcast(fours + 4 * i))), ...);
  }
  int32_t kept[kWidth / 4] = {};
  (add_sums(kept, sum[i]), ...);
  return kept[0] == static_cast<int32_t>(4 * sizeof...(i) * rounds) ? int64_t{kWidth} * sizeof...(i) * rounds : 0;
}

int64_t dots(int64_t rounds) { return repeat_dots(rounds, std::make_integer_sequence<int, kBudget>{}); }
