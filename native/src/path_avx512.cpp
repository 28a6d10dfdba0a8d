// The avx512 path: every operation compiled for it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <immintrin.h>

#include "ops.hpp"
#include "vectors.hpp"

#define H2Q_AVX512 1

namespace h2q {
namespace avx512 {
namespace {

#include "floats.inl"
#include "planes_avx512.inl"
#include "panels.inl"
#include "viterbi.inl"

}  // namespace
}  // namespace avx512

const Ops& ops_avx512() {
  using namespace avx512;
  static const Ops table{"avx512", rotate, quantize, rms_norm, swiglu, rope, attend, panel, viterbi};
  return table;
}

}  // namespace h2q
