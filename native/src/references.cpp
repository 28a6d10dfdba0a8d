#include "references.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "dispatch.hpp"
#include "plane.hpp"
#include "pool.hpp"

namespace h2q {
namespace {

using Sum = uint64_t (*)(const uint64_t*, int64_t);

// Four running sums of kBytes each; the rest word by word.
template <int kBytes>
H2Q_INLINE uint64_t sum_of(const uint64_t* words, int64_t count) {
  constexpr int kWords = kBytes / 8, kSums = 4;
  typedef uint64_t Vector __attribute__((vector_size(kBytes)));
  Vector sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums * kWords <= count; i += kSums * kWords)
    for (int s = 0; s < kSums; ++s) {
      Vector v;
      std::memcpy(&v, words + i + s * kWords, sizeof v);
      sums[s] += v;
    }
  uint64_t parts[kSums * kWords], total = 0;
  std::memcpy(parts, sums, sizeof parts);
  for (const uint64_t part : parts) total += part;
  for (; i < count; ++i) total += words[i];
  return total;
}

uint64_t plain(const uint64_t* words, int64_t count) { return sum_of<16>(words, count); }
#if defined(__x86_64__)
__attribute__((target("avx2"))) uint64_t half(const uint64_t* words, int64_t count) {
  return sum_of<32>(words, count);
}
__attribute__((target("avx512f"))) uint64_t full(const uint64_t* words, int64_t count) {
  return sum_of<64>(words, count);
}
#endif

std::vector<Sum> find_forms() {
  std::vector<Sum> out{plain};
#if defined(__x86_64__)
  for (const Feature& feature : features()) {
    if (feature.name == "avx2" && feature.executed) out.push_back(half);
    if (feature.name == "avx512" && feature.executed) out.push_back(full);
  }
#endif
  return out;
}

const std::vector<Sum>& forms() {
  static const std::vector<Sum> found = find_forms();
  return found;
}

}  // namespace

int read_forms() { return static_cast<int>(forms().size()); }

uint64_t read_words(const uint64_t* words, int64_t count, int form) {
  constexpr int64_t kPiece = 1 << 17;
  const Sum sum = forms()[static_cast<size_t>(form)];
  std::atomic<uint64_t> total{0};
  parallel_for(static_cast<int>((count + kPiece - 1) / kPiece), [&](int piece, int) {
    const int64_t first = piece * kPiece;
    total += sum(words + first, std::min(kPiece, count - first));
  });
  return total;
}

int64_t repeat_dots(int64_t rounds) {
  const Ops& ops = active();
  std::atomic<int64_t> done{0};
  parallel_for(pool_threads(), [&](int, int) { done += ops.dots(rounds); });
  return done;
}

int64_t synchronise(int64_t rounds, bool meet) {
  constexpr int kPatience = 1 << 22;  // looks around before a thread gives up on the others
  const int threads = pool_threads();
  int64_t met = 0;
  for (int64_t round = 0; round < rounds; ++round) {
    std::atomic<int> begun{0}, missed{0};
    parallel_for(threads, [&](int, int) {
      if (!meet) return;
      ++begun;
      int left = kPatience;
      while (begun.load() < threads && left > 0) --left;
      if (left == 0) ++missed;
    });
    met += missed.load() == 0;
  }
  return met;
}

}  // namespace h2q
