// What the operating system tells about the processor.
#pragma once

namespace h2q {

// Cores worth a thread: those for performance where the processor has two kinds (Apple), else all this process may use.
int performance_cores();
// ARM: whether the processor has SDOT.
bool has_dot_product();
// Marks the calling thread as one a person waits for, so that it runs on a performance core (Apple).
void prefer_performance();

}  // namespace h2q
