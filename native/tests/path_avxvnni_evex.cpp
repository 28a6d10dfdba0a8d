// The AVX-VNNI path in the encoding of AVX-512, for machines that test it and have only that one.
#define H2Q_PATH avxvnni_evex
#include "path_avxvnni.cpp"
