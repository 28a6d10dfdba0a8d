// The avx2 path: every operation compiled for it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <immintrin.h>

#include "ops.hpp"
#include "vectors.hpp"

#define H2Q_AVX2 1

namespace h2q {
namespace avx2 {
namespace {

#include "floats.inl"
#include "planes_avx2.inl"
#include "panels.inl"
#include "viterbi.inl"

}  // namespace
}  // namespace avx2

const Ops& ops_avx2() {
  using namespace avx2;
  static const Ops table{"avx2", rotate, quantize, rms_norm, swiglu, rope, attend, panel, viterbi};
  return table;
}

}  // namespace h2q
