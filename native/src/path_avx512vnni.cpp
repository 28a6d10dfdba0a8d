// AVX-512 with VNNI and without GFNI: Cascade Lake.
#define H2Q_PATH avx512vnni
#define H2Q_PLANES "planes_avx512.inl"
#define H2Q_AVX512 1
#define H2Q_NIBBLES 1
#define H2Q_VNNI 1
#include "path.inl"
