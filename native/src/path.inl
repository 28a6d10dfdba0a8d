// One path: every operation compiled for one set of instructions. The including file names it in H2Q_PATH, its
// instructions in H2Q_PLANES and, where it looks nibbles up, sets H2Q_NIBBLES.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "ops.hpp"
#include "vectors.hpp"

#define H2Q_JOINED(a, b) a##b
#define H2Q_TABLE(path) H2Q_JOINED(ops_, path)
#define H2Q_QUOTED(name) #name
#define H2Q_NAME(path) H2Q_QUOTED(path)

namespace h2q {
namespace H2Q_PATH {
namespace {

#include "wide.inl"
#include "floats.inl"
#include "rotations.inl"
#include "dense.inl"
#include H2Q_PLANES
#if H2Q_NIBBLES
#include "planes_nibbles.inl"
#endif
#include "strips.inl"
#if H2Q_I8MM
#include "pairs_i8mm.inl"
#endif
#include "rounded.inl"
#include "bare_dots.inl"
#include "finish.inl"
#include "viterbi.inl"
#include "corrections.inl"
#include "pair_sums.inl"
#include "pages.inl"

}  // namespace
}  // namespace H2Q_PATH

const Ops& H2Q_TABLE(H2Q_PATH)() {
  using namespace H2Q_PATH;
  static const Ops table{H2Q_NAME(H2Q_PATH), rotate, quantize,   rotate_quantize, rms_norm, swiglu,
                         rope,               attend, dense,      panel_sums,      finish,   dots,
                         viterbi,            add_rms_norm, geglu,    clamped_swiglu,  softmax_sums, store_head,
                         prepare_query,      page_part,    join_pages, finish_query, rounded};
  return table;
}

}  // namespace h2q
