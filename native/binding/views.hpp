// Arrays from Python as the views that operations take, their shapes checked; and what is kept prepared between calls.
#pragma once
#include <stdexcept>
#include <vector>

#include "arrays.hpp"
#include "dispatch.hpp"

inline void require(bool good, const char* what) {
  if (!good) throw std::invalid_argument(what);
}

h2q::RotationView rotation_view(Borders& at, const In<float, 1>& signs, const In<float, 2>& mix, int block);

// (bits, rows, cols, codes, scales) per plane, all of one matrix.
std::vector<h2q::PlaneView> plane_views(Borders& at, const nb::list& planes);

// A rotation whose arrays are held.
struct Turn {
  In<float, 1> signs;
  In<float, 2> mix;
  Borders at;
  h2q::RotationView view;
  Turn(const Turn&) = delete;
  Turn(In<float, 1> s, In<float, 2> m, int block) : signs(s), mix(m), view(rotation_view(at, signs, mix, block)) {}
};
