// Choosing a path: trials are guarded, the handler that was there is there again, foreign names are refused.
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>

#include "laws.hpp"

namespace {

void illegal() {
#if defined(__x86_64__)
  asm volatile("ud2");
#elif defined(__aarch64__)
  asm volatile("udf #0");
#else
  std::raise(SIGILL);
#endif
}
void legal() {}

sigjmp_buf heard_exit;
void hear(int) { siglongjmp(heard_exit, 1); }

void check_guard() {
  struct sigaction mine {}, before {}, now {};
  mine.sa_handler = hear;
  sigemptyset(&mine.sa_mask);
  sigaction(SIGILL, &mine, &before);
  for (int i = 0; i < 3; ++i) {
    laws::expect(!h2q::executes(illegal), "guard", "an illegal instruction passed");
    laws::expect(h2q::executes(legal), "guard", "nothing at all failed");
  }
  sigaction(SIGILL, nullptr, &now);
  laws::expect(now.sa_handler == hear, "guard", "the handler from before is gone");
  volatile bool heard = false;
  if (sigsetjmp(heard_exit, 1) == 0) illegal();
  else heard = true;
  laws::expect(heard, "guard", "the handler from before hears nothing");
  sigaction(SIGILL, &before, nullptr);
}

void check_threads() {
  int good[8] = {};
  std::vector<std::thread> threads;
  for (int& count : good)
    threads.emplace_back([&count] {
      for (int i = 0; i < 50; ++i) count += !h2q::executes(illegal) && h2q::executes(legal);
    });
  for (auto& thread : threads) thread.join();
  for (int count : good) laws::expect(count == 50, "guard", "trials of several threads disturb each other");
}

void check_names() {
  laws::expect(!h2q::usable_paths().empty(), "paths", "there is none");
  laws::expect(h2q::usable_paths().back() == &h2q::ops_portable(), "paths", "the last one is not portable");
  laws::expect(&h2q::active() == h2q::usable_paths().front(), "paths", "the first choice is not the best");
  for (const h2q::Ops* path : h2q::usable_paths()) {
    h2q::use(std::string(path->name));
    laws::expect(&h2q::active() == path, path->name, "cannot be forced");
  }
  for (const char* name : {"abacus", "", "AVX2", "portable "}) {
    bool refused = false;
    try {
      h2q::use(std::string(name));
    } catch (const std::invalid_argument& error) {
      refused = std::strstr(error.what(), name) != nullptr;
    }
    laws::expect(refused, name, "was taken for a path");
  }
}

void check_features() {
  for (const h2q::Feature& feature : h2q::features()) {
    std::printf("%s: found %d, executed %d\n", feature.name.c_str(), feature.found, feature.executed);
    laws::expect(feature.found || !feature.executed, feature.name.c_str(), "was executed without being found");
  }
}

}  // namespace

int main() {
  check_guard();
  check_threads();
  check_features();
  check_names();
  return laws::verdict();
}
