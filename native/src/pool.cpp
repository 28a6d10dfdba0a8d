#include "pool.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "cores.hpp"

namespace h2q {
namespace {

constexpr auto kSpin = std::chrono::microseconds(200);  // longer than an interpreter needs between two operations

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Job {
  const std::function<void(int, int)>* work;
  int units;
  std::atomic<int> next{0};

  void run(int worker) {
    for (int unit; (unit = next.fetch_add(1)) < units;) (*work)(unit, worker);
  }
};

class Pool {
 public:
  explicit Pool(int count) {
    for (int i = 1; i < count; ++i) threads_.emplace_back([this, i] { serve(i); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(sleep_);
      stop_ = true;
      ++epoch_;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  int size() const { return static_cast<int>(threads_.size()) + 1; }

  void run(int units, const std::function<void(int, int)>& work) {
    Job job{&work, units};
    std::unique_lock<std::mutex> mine(callers_, std::try_to_lock);
    if (!mine.owns_lock() || threads_.empty()) {
      job.run(0);
      return;
    }
    job_.store(&job);
    {
      std::lock_guard<std::mutex> lock(sleep_);
      ++epoch_;
    }
    if (sleepers_.load() > 0) wake_.notify_all();
    job.run(0);
    job_.store(nullptr);
    while (inside_.load() > 0) relax();  // workers that are still at a unit of this job
  }

 private:
  void serve(int worker) {
    prefer_performance();
    uint64_t seen = 0;
    for (;;) {
      const auto until = std::chrono::steady_clock::now() + kSpin;
      for (int i = 0; epoch_.load() == seen; ++i) {
        relax();
        if (i % 64 == 63 && std::chrono::steady_clock::now() > until) {
          std::unique_lock<std::mutex> lock(sleep_);
          ++sleepers_;
          wake_.wait(lock, [&] { return epoch_.load() != seen; });
          --sleepers_;
        }
      }
      seen = epoch_.load();
      if (stop_) return;
      ++inside_;  // from here until we leave, the caller keeps the job alive
      if (Job* job = job_.load()) job->run(worker);
      --inside_;
    }
  }

  std::vector<std::thread> threads_;
  std::mutex callers_, sleep_;
  std::condition_variable wake_;
  std::atomic<uint64_t> epoch_{0};
  std::atomic<Job*> job_{nullptr};
  std::atomic<int> inside_{0}, sleepers_{0};
  std::atomic<bool> stop_{false};
};

std::mutex making;
Pool* pool = nullptr;
int wanted = 0;

void forget_after_fork() { pool = nullptr; }  // threads do not survive a fork; the child makes its own

Pool& instance() {
  std::lock_guard<std::mutex> lock(making);
  if (!pool) {
#if defined(__unix__) || defined(__APPLE__)
    static const int once = pthread_atfork(nullptr, nullptr, forget_after_fork);
    (void)once;
#endif
    pool = new Pool(wanted > 0 ? wanted : performance_cores());
  }
  return *pool;
}

}  // namespace

void parallel_for(int units, const std::function<void(int, int)>& work) {
  if (units == 1) {
    work(0, 0);
    return;
  }
  instance().run(units, work);
}

int pool_threads() { return instance().size(); }

void set_pool_threads(int count) {
  std::lock_guard<std::mutex> lock(making);
  if (pool && pool->size() == count) return;
  delete pool;
  pool = nullptr;
  wanted = std::max(1, count);
}

}  // namespace h2q
