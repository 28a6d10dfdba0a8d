#include "pool.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "cores.hpp"

namespace h2q {
namespace {

constexpr auto kSpin = std::chrono::microseconds(200);  // longer than an interpreter needs between two operations
constexpr int kEagerSpins = 256;   // before others are let in: there may be more threads than cores
constexpr int kSpinsPerLook = 64;  // at the clock

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits for `ready`, at first without letting go of the core, then letting others in. False when kSpin has passed.
template <typename Condition>
bool spin(const Condition& ready) {
  for (int i = 0; i < kEagerSpins; ++i) {
    if (ready()) return true;
    relax();
  }
  const auto until = std::chrono::steady_clock::now() + kSpin;
  do {
    std::this_thread::yield();
    for (int i = 0; i < kSpinsPerLook; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < until);
  return false;
}

struct alignas(64) Job {
  const Work work;
  const int units, workers;
  std::atomic<int> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure{};  // of the one that set `failed`

  void run(int worker) {
    try {
      for (int unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < units;)
        work.call(work.object, unit, worker);
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
      next.store(units);
    }
  }
};

// Somewhere to sleep until a condition holds. Who makes it hold says so with `wake`, which costs one load where nobody
// sleeps: either the sleeper counted itself in before that load, or it sees the condition.
class Bed {
 public:
  template <typename Condition>
  void sleep(const Condition& ready) {
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleepers_;
    woken_.wait(lock, ready);
    --sleepers_;
  }
  void wake() {
    if (sleepers_.load() == 0) return;
    { std::lock_guard<std::mutex> lock(mutex_); }  // a sleeper that has looked is asleep now
    woken_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable woken_;
  std::atomic<int> sleepers_{0};
};

// Never destroyed, so that nobody can be left inside. Threads come and go only in the hands of who holds the door.
class Pool {
 public:
  Pool() : wanted_(std::min(kMostThreads, performance_cores())) {}

  int size() const { return wanted_.load(std::memory_order_relaxed); }

  // Threads that are too many or too few end now, or with the next work where work is going on.
  void resize(int count) {
    wanted_.store(count);
    if (door_.exchange(true)) return;
    if (started_ != count) stop();
    door_.store(false);
  }

  void run(Job& job) {
    const int size = wanted_.load(std::memory_order_relaxed);
    if (size == 1 || job.units == 1 || job.workers == 1 || door_.exchange(true)) {
      job.run(0);
      return;
    }
    if (started_ != size) start(size);
    job_.store(&job);
    epoch_.fetch_add(1);
    work_.wake();
    job.run(0);
    job_.store(nullptr);
    const auto empty = [this] { return inside_.load() == 0; };  // nobody is at a unit of this job any more
    if (!spin(empty)) done_.sleep(empty);
    if (wanted_.load() != size) stop();  // a resize found the door closed
    door_.store(false);
  }

 private:
  void start(int size) {
    stop();
    started_ = size;
    try {
      for (int worker = 1; worker < size; ++worker)
        threads_.emplace_back([this, worker, epoch = epoch_.load()] { serve(worker, epoch); });
    } catch (const std::system_error&) {  // the machine has no more threads: fewer do the same work
    }
  }

  void stop() {
    stop_.store(true);
    epoch_.fetch_add(1);
    work_.wake();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
    stop_.store(false);
    started_ = 0;
  }

  void serve(int worker, uint32_t seen) {
    prefer_performance();
    const auto called = [&] { return epoch_.load() != seen; };
    for (;;) {
      if (!spin(called)) work_.sleep(called);
      seen = epoch_.load();
      if (stop_.load()) return;
      inside_.fetch_add(1);  // from here until we leave, the caller keeps the job alive
      if (Job* job = job_.load(); job && worker < job->workers) job->run(worker);
      if (inside_.fetch_sub(1) == 1) done_.wake();
    }
  }

  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<Job*> job_{nullptr};
  std::atomic<bool> stop_{false};
  alignas(64) std::atomic<int> inside_{0};
  alignas(64) std::atomic<bool> door_{false};  // held by who gives work or changes threads
  std::atomic<int> wanted_;
  int started_ = 0;
  std::vector<std::thread> threads_;
  Bed work_, done_;
};

std::atomic<Pool*> pool{nullptr};

Pool& instance() {
  if (Pool* ready = pool.load(std::memory_order_acquire)) return *ready;
  Pool* made = new Pool;  // without threads yet
  Pool* first = nullptr;
  if (pool.compare_exchange_strong(first, made)) return *made;
  delete made;
  return *first;
}

// Threads do not survive a fork: the child makes a pool of the same size of its own.
#if defined(__unix__) || defined(__APPLE__)
void renew_after_fork() {
  Pool* before = pool.exchange(nullptr);
  if (before) set_pool_threads(before->size());
}
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, renew_after_fork);
#endif

}  // namespace

void run_units(int units, int most_workers, Work work) {
  Job job{work, units, most_workers};
  if (units > 0) instance().run(job);
  if (job.failed.load()) std::rethrow_exception(job.failure);
}

int pool_threads() { return instance().size(); }

void set_pool_threads(int count) {
  if (count < 1 || count > kMostThreads) throw std::invalid_argument("a pool has 1 to 256 threads");
  instance().resize(count);
}

}  // namespace h2q
