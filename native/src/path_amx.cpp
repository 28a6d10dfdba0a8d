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

// Few tokens are not worth writing levels down: they are multiplied in the registers they are decoded in.
void panel_sums_of(const PlaneView& plane, int panel, int first, int last, const int8_t* x, int tokens, int tiles,
                   int64_t tile_stride, int32_t* sums) {
  (tokens < kCellTokens ? ops_avx512().panel_sums : panel_sums)(plane, panel, first, last, x, tokens, tiles, tile_stride, sums);
}

}  // namespace
}  // namespace amx

const Ops& ops_amx() {
  static const Ops table = [] {
    Ops out = ops_avx512();
    out.name = "amx";
    out.cell = amx::kCell;
    out.panel_sums = amx::panel_sums_of;
    out.dots = amx::dots;
    return out;
  }();
  return table;
}

}  // namespace h2q
