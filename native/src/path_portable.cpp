// Any processor.
#define H2Q_PATH portable
#define H2Q_PLANES "planes_portable.inl"
#include "path.inl"
