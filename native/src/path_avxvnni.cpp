// AVX2 with AVX-VNNI: Alder Lake and later.
#ifndef H2Q_PATH  // a test compiles it once more, in the encoding of AVX-512
#define H2Q_PATH avxvnni
#endif
#define H2Q_PLANES "planes_avx2.inl"
#define H2Q_AVX2 1
#define H2Q_NIBBLES 1
#define H2Q_VNNI 1
#include "path.inl"
