// The guard of the self-test: an instruction this processor lacks is noticed and survived, as often as one likes.
#include <csignal>
#include <cstdio>

#include "dispatch.hpp"

namespace {

bool ran = false;

void run_something() { ran = true; }

void run_nothing() {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("ud2");
#elif defined(__aarch64__)
  asm volatile(".inst 0");  // UDF
#else
  raise(SIGILL);
#endif
}

int failures = 0;

void expect(bool good, const char* what) {
  if (good) return;
  std::printf("%s\n", what);
  ++failures;
}

}  // namespace

int main() {
  for (int i = 0; i < 3; ++i) {
    expect(!h2q::runs(run_nothing), "an undefined instruction passed");
    ran = false;
    expect(h2q::runs(run_something) && ran, "a harmless trial did not pass");
  }
  struct sigaction after {};
  sigaction(SIGILL, nullptr, &after);
  expect(after.sa_handler == SIG_DFL, "the guard was left standing");
  std::printf("path %s\n", h2q::usable_paths().front()->name);
  for (const auto& feature : h2q::features()) {
    expect(feature.found || !feature.executed, "a feature ran that the processor does not name");
    std::printf("%s: %s\n", feature.name.c_str(), feature.executed ? "ran" : feature.found ? "did not run" : "no");
  }
  std::printf("%d failures\n", failures);
  return failures != 0;
}
