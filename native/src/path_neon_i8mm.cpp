// NEON with dot products and int8 matrices: ARMv8.6, Apple M2 and later.
#define H2Q_PATH neon_i8mm
#define H2Q_PLANES "planes_neon.inl"
#define H2Q_I8MM 1
#include "path.inl"
