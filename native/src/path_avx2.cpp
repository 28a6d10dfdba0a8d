// AVX2: Haswell, Zen and later.
#define H2Q_PATH avx2
#define H2Q_PLANES "planes_avx2.inl"
#define H2Q_AVX2 1
#define H2Q_NIBBLES 1
#include "path.inl"
