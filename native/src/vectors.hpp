// Sixteen floats as one value, in the order of additions the NumPy twins keep. GCC and Clang map this type to whatever
// vector unit the file is compiled for; the bits do not depend on it (no contraction, no reassociation).
#pragma once
#include <cstdint>

#include "plane.hpp"

namespace h2q {

constexpr int kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));

H2Q_INLINE int32_t four_bytes(const int8_t* p) {
  int32_t value;
  __builtin_memcpy(&value, p, 4);
  return value;
}

// Four inputs of token k among those of neighbouring tokens; paths may load them together.
template <int k>
struct Token {
  const int8_t* fours;
  H2Q_INLINE operator const int8_t*() const { return fours + 4 * k; }
};

}  // namespace h2q
