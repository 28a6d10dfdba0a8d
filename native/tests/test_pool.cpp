// The pool: every unit once, from several callers, while its size changes, through exceptions and forks.
#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "laws.hpp"
#include "pool.hpp"

#if defined(__SANITIZE_THREAD__)
#define H2Q_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define H2Q_THREAD_SANITIZER 1
#endif
#endif

namespace {

// Every unit runs exactly once, and a worker is never at two units at the same time.
bool every_unit_once(int units, int most_workers = h2q::kMostThreads) {
  const std::unique_ptr<std::atomic<int>[]> done(new std::atomic<int>[static_cast<size_t>(units) + 1]());
  const std::unique_ptr<std::atomic<bool>[]> at_work(new std::atomic<bool>[h2q::kMostThreads]());
  std::atomic<bool> good{true};
  h2q::parallel_for(
      units,
      [&](int unit, int worker) {
        if (worker < 0 || worker >= most_workers || at_work[static_cast<size_t>(worker)].exchange(true)) good = false;
        done[static_cast<size_t>(unit)].fetch_add(1);
        at_work[static_cast<size_t>(worker)].store(false);
      },
      most_workers);
  for (int i = 0; i < units; ++i) good = good && done[static_cast<size_t>(i)] == 1;
  return good;
}

void check_sizes() {
  for (int threads : {1, 2, 3, 5, 9}) {
    h2q::set_pool_threads(threads);
    laws::expect(h2q::pool_threads() == threads, "pool", "not as many threads as were asked for");
    for (int units : {0, 1, 2, 3, 10, 1000}) laws::expect(every_unit_once(units), "pool", "not every unit ran once");
    for (int most : {1, 2, 4}) laws::expect(every_unit_once(100, most), "pool", "more workers than were allowed");
  }
  for (int senseless : {0, -1, h2q::kMostThreads + 1, 1 << 30}) {
    bool refused = false;
    try {
      h2q::set_pool_threads(senseless);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    laws::expect(refused && h2q::pool_threads() == 9, "pool", "took a senseless number of threads");
  }
}

void check_sleep() {
  h2q::set_pool_threads(3);
  for (int i = 0; i < 20; ++i) {  // after each pause the workers have to be woken
    laws::expect(every_unit_once(50), "pool", "not every unit ran once after sleep");
    std::this_thread::sleep_for(std::chrono::microseconds(i % 2 ? 2000 : 190));
  }
  // A caller that is done long before its workers sleeps, too, and is woken.
  std::atomic<int> done{0};
  h2q::parallel_for(3, [&](int, int worker) {
    if (worker > 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    ++done;
  });
  laws::expect(done == 3, "pool", "did not wait for a slow worker");
}

void check_nesting() {
  std::atomic<int> done{0};
  h2q::parallel_for(6, [&](int, int) { h2q::parallel_for(7, [&](int, int) { ++done; }); });
  laws::expect(done == 42, "pool", "a unit could not call the pool");
}

void check_exceptions() {
  h2q::set_pool_threads(4);
  for (int round = 0; round < 50; ++round) {
    bool heard = false;
    try {
      h2q::parallel_for(40, [&](int unit, int) {
        if (unit % 5 == round % 5) throw std::runtime_error("unit");
      });
    } catch (const std::runtime_error&) {
      heard = true;
    }
    laws::expect(heard, "pool", "an exception was lost");
    laws::expect(every_unit_once(30), "pool", "not every unit ran once after an exception");
  }
}

// Callers, one that changes the size and one that changes the path, all at once, on real products and encodings.
void check_storm(int rounds) {
  laws::Draw draw(7);
  const laws::RandomPlane plane(draw, 2, 263, 520);
  constexpr int kTokens = 3, kStride = 544;
  std::vector<int8_t> codes(kTokens * kStride);
  for (auto& c : codes) c = static_cast<int8_t>(draw.below(255) - 127);
  const std::vector<float> scale(kTokens, 0.01f), target = draw.normal(64 * 48, 27.0f);
  std::vector<int32_t> sums(kTokens);
  for (size_t t = 0; t < kTokens; ++t)
    for (size_t i = 0; i < kStride; ++i) {
      int8_t& code = codes[t * kStride + i];
      if (i >= 520) code = 0;
      sums[t] += code;
    }
  const auto product = [&] {
    std::vector<float> out(kTokens * 263);
    h2q::matmul(&plane.view, 1, {codes.data(), scale.data(), sums.data(), kTokens, kStride}, out.data());
    return out;
  };
  const auto encoded = [&] {
    std::vector<uint8_t> out(laws::code_bytes(h2q::plane_layout(2, 64, 48)));
    h2q::encode_plane(2, 64, 48, target.data(), nullptr, 16, 16, out.data(), {});
    return out;
  };
  const auto expected = product();
  const auto expected_codes = encoded();
  std::atomic<bool> stop{false};
  std::atomic<int> bad{0};
  std::thread changer([&] {
    for (int i = 0; !stop; ++i) {
      h2q::set_pool_threads(1 + i % 7);
      h2q::use(*laws::paths()[static_cast<size_t>(i) % laws::paths().size()]);
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&, caller] {
      for (int i = 0; i < rounds; ++i) {
        bad += !every_unit_once(20);
        if (caller == 0) bad += i % 8 == 0 && encoded() != expected_codes;
        else bad += product() != expected;
      }
    });
  for (auto& caller : callers) caller.join();
  stop = true;
  changer.join();
  laws::expect(bad == 0, "pool", "callers and changes of size disturb each other");
}

#if (defined(__unix__) || defined(__APPLE__)) && !defined(H2Q_THREAD_SANITIZER) && !defined(H2Q_EMULATED)
// A child has none of its parent's threads and still computes, even when another thread was at work in the pool.
void check_fork() {
  h2q::set_pool_threads(3);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) every_unit_once(200);
  });
  for (int i = 0; i < 10; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(h2q::pool_threads() == 3 && every_unit_once(100) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    laws::expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "pool", "a child could not compute");
  }
  stop = true;
  busy.join();
}
#else
void check_fork() {}  // the sanitizer does not allow threads in the child, QEMU no child of a program with threads
#endif

}  // namespace

int main() {
  laws::set_codes();
  check_sizes();
  check_sleep();
  check_nesting();
  check_exceptions();
  check_storm(200);
  check_fork();
  h2q::set_pool_threads(5);  // and the program ends while they sleep
  every_unit_once(9);
  return laws::verdict();
}
