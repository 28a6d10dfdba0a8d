// AVX-512 with GFNI, VBMI and VNNI: Ice Lake, Zen 4 and later.
#define H2Q_PATH avx512
#define H2Q_PLANES "planes_gfni.inl"
#define H2Q_AVX512 1
#include "path.inl"
