// The portable path: every operation compiled for it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "ops.hpp"
#include "vectors.hpp"

namespace h2q {
namespace portable {
namespace {

#include "floats.inl"
#include "planes_portable.inl"
#include "panels.inl"
#include "viterbi.inl"

}  // namespace
}  // namespace portable

const Ops& ops_portable() {
  using namespace portable;
  static const Ops table{"portable", rotate, quantize, rms_norm, swiglu, rope, attend, panel, viterbi};
  return table;
}

}  // namespace h2q
