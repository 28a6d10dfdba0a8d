// What speeds are held against: reading memory, bare multiply-adds, threads that meet.
#pragma once
#include <cstdint>

namespace h2q {

// Ways to read memory that run here: plain, and on x86 with vectors of 32 and of 64 bytes. Which one is fastest depends on
// the processor and on the hour, so a benchmark takes the best of them.
int read_forms();
// The sum of a buffer's words, read by every thread of the pool. form < read_forms().
uint64_t read_words(const uint64_t* words, int64_t count, int form);

// Multiply-adds done by every thread in that many rounds of nothing else, on the active path.
int64_t repeat_dots(int64_t rounds);

// Jobs of one unit per thread. Where they `meet`, no unit ends before all have begun, so that a job takes as long as
// waking every thread and hearing from it; where not, a job is empty and costs what a product pays at least. Returns how
// many jobs found every thread in time.
int64_t synchronise(int64_t rounds, bool meet);

}  // namespace h2q
