// One pool of threads per process. Workers spin for a moment, then sleep; the calling thread always takes part.
#pragma once

namespace h2q {

constexpr int kMostThreads = 256;

// Work without a copy and without an allocation: a pointer to the caller's function object, and how to call it.
struct Work {
  const void* object;
  void (*call)(const void* object, int unit, int worker);
};
void run_units(int units, int most_workers, Work work);

// Runs work(unit, worker) for every unit in [0, units), handed out one by one; worker < most_workers, and two units
// with one worker never run at the same time. A second caller at the same time does its units by itself. What a unit
// throws first is thrown here, and the units that nobody began are dropped.
template <typename Function>
void parallel_for(int units, const Function& work, int most_workers = kMostThreads) {
  run_units(units, most_workers, {&work, [](const void* object, int unit, int worker) {
                                    (*static_cast<const Function*>(object))(unit, worker);
                                  }});
}

// Threads that take part in what is begun from now on, the caller included. May change at any moment: where arrays have
// one entry per worker, read it once and give it to parallel_for.
int pool_threads();
// 1 to kMostThreads, else std::invalid_argument. Does not wait for work that runs.
void set_pool_threads(int count);

}  // namespace h2q
