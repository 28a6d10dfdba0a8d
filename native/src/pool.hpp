// One pool of threads per process. Workers spin for a moment, then sleep; the calling thread always takes part.
#pragma once
#include <functional>

namespace h2q {

// Runs work(unit, worker) for every unit in [0, units); worker < pool_threads(). Units are handed out one by one.
// A second caller at the same time does its units by itself. `work` must not throw.
void parallel_for(int units, const std::function<void(int, int)>& work);

// Threads that take part, the caller included.
int pool_threads();
void set_pool_threads(int count);

}  // namespace h2q
