// Sixteen floats as one value, in the order of additions the NumPy twins keep. GCC and Clang map this type to whatever
// vector unit the file is compiled for; the bits do not depend on it (no contraction, no reassociation).
#pragma once
#include <cstdint>
#include <cstring>

namespace h2q {

constexpr int kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));

}  // namespace h2q
