// What the operating system tells about the processor.
#pragma once

namespace h2q {

// Cores that this process may use. Where a processor has several kinds (Apple, other ARM), those that reach at least
// half the speed of the best are for performance; elsewhere all are.
struct Cores {
  int performance, efficiency;
};
Cores usable_cores();
// Cores worth a thread of ours: units of work are handed out evenly, and a slow core would be waited for.
inline int performance_cores() { return usable_cores().performance; }
// ARM: whether the processor has SDOT.
bool has_dot_product();
// ARM: whether the processor has SMMLA.
bool has_int8_matrices();
// Marks the calling thread as one a person waits for, so that it runs on a performance core (Apple).
void prefer_performance();

}  // namespace h2q
