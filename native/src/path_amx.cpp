// AVX-512 as in path_avx512.cpp, its products by tiles (AMX): Sapphire Rapids and later.
#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "ops.hpp"
#include "vectors.hpp"

namespace h2q {
namespace amx {
namespace {

inline int least(int a, int b) { return a < b ? a : b; }

#include "planes_gfni.inl"
#include "tiles_amx.inl"

}  // namespace
}  // namespace amx

const Ops& ops_amx() {
  static const Ops table = [] {
    Ops out = ops_avx512();
    out.name = "amx";
    out.cell = amx::kCell;
    out.panel_sums = amx::panel_sums;
    out.dots = amx::dots;
    return out;
  }();
  return table;
}

}  // namespace h2q
