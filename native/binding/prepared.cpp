// Planes and rotations looked at once, and the operation that uses both.
#include <nanobind/stl/vector.h>

#include "layer.hpp"
#include "prepared.hpp"

h2q::RotationView rotation_view(Borders& at, const In<float, 1>& signs, const In<float, 2>& mix, int block) {
  const int width = static_cast<int>(signs.shape(0)), mixed = static_cast<int>(mix.shape(0));
  require(block > 0 && width % block == 0 && mix.shape(1) == mix.shape(0), "rotation does not fit its width");
  require(mixed == 1 || mixed * block == width, "rotation mix does not fit its width");
  return {at(signs), at(mix), width, block, mixed};
}

std::vector<h2q::PlaneView> plane_views(Borders& at, const nb::list& planes) {
  std::vector<h2q::PlaneView> out;
  for (nb::handle item : planes) {
    const auto plane = nb::cast<nb::tuple>(item);
    require(plane.size() == 5, "a plane is (bits, rows, cols, codes, scales)");
    auto view = h2q::plane_layout(nb::cast<int>(plane[0]), nb::cast<int>(plane[1]), nb::cast<int>(plane[2]));
    In<uint8_t, 3> codes;
    In<uint16_t, 1> scales;
    require(nb::try_cast(plane[3], codes, false), "the codes are not a contiguous array of bytes of three dimensions");
    require(nb::try_cast(plane[4], scales, false), "the row scales are not a contiguous vector of uint16");
    require(static_cast<int>(codes.shape(0)) == view.panels && static_cast<int>(codes.shape(1)) == view.lines &&
                codes.shape(2) == h2q::kLineLanes,
            "the codes do not have the shape of their plane");
    require(static_cast<int>(scales.shape(0)) >= view.rows, "there are fewer row scales than rows");
    view.codes = codes.data();
    view.scales = at(scales);
    require(out.empty() || (out[0].rows == view.rows && out[0].cols == view.cols), "stacked planes differ in shape");
    out.push_back(view);
  }
  require(!out.empty(), "there is no plane");
  return out;
}

namespace {

// out: (tokens, rows) of every stack, one after the other.
bool project(In<float, 2> x, const Turn& turn, std::vector<const Stack*> stacks, Array<float, 1> out) {
  Borders at;
  const int tokens = static_cast<int>(x.shape(0)), width = static_cast<int>(x.shape(1));
  require(width == turn.view.width, "the input does not have the width of its rotation");
  std::vector<h2q::StackView> views;
  size_t results = 0;
  for (const Stack* stack : stacks) {
    require(stack->views[0].cols == width, "the input does not have the width of the planes");
    views.push_back({stack->views.data(), static_cast<int>(stack->views.size())});
    results += x.shape(0) * static_cast<size_t>(views.back().rows());
  }
  require(out.shape(0) == results, "the output does not fit");
  const float* input = at(x);
  nb::gil_scoped_release release;
  return h2q::project(turn.view, views.data(), static_cast<int>(views.size()), input, tokens, out.data());
}

// Rows of a matrix, rotated back.
void embed_rows(const Stack& stack, In<int64_t, 1> ids, const Turn& turn, Array<float, 2> out) {
  Borders at;
  const auto& view = stack.views[0];
  require(turn.view.width == view.cols, "the rotation does not have the width of the planes");
  require(out.shape(0) == ids.shape(0) && static_cast<int>(out.shape(1)) == view.cols, "the output does not fit");
  const int64_t* rows = at(ids);
  for (size_t i = 0; i < ids.shape(0); ++i)
    require(rows[i] >= 0 && rows[i] < view.rows, "a row lies outside the matrix");
  nb::gil_scoped_release release;
  const int tokens = static_cast<int>(ids.shape(0));
  h2q::gather(stack.views.data(), static_cast<int>(stack.views.size()), rows, tokens, out.data());
  h2q::rotate_tokens(turn.view, out.data(), out.data(), tokens, true);
}

}  // namespace

void bind_prepared(nb::module_& m) {
  nb::class_<Turn>(m, "Turn").def(nb::init<In<float, 1>, In<float, 2>, int>());
  nb::class_<Stack>(m, "Stack").def(nb::init<nb::list>());
  m.def("project", &project);
  m.def("embed_rows", &embed_rows);
}
