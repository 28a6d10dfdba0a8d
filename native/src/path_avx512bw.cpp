// AVX-512 as in Skylake.
#define H2Q_PATH avx512bw
#define H2Q_PLANES "planes_avx512.inl"
#define H2Q_AVX512 1
#define H2Q_NIBBLES 1
#include "path.inl"
