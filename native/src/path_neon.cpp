// NEON with dot products: ARMv8.2 and later, every Apple M.
#define H2Q_PATH neon
#define H2Q_PLANES "planes_neon.inl"
#include "path.inl"
