// The encoder's binding; progress comes back to Python between blocks.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>

#include "arrays.hpp"
#include "dispatch.hpp"
#include "encode.hpp"

namespace {

std::string encode_plane(In<float, 2> target, int bits, std::optional<In<float, 2>> feedback, int commit, int lookahead,
                         Array<uint8_t, 3> codes, nb::object progress) {
  Borders at;
  const int rows = static_cast<int>(target.shape(0)), cols = static_cast<int>(target.shape(1));
  const auto plane = h2q::plane_layout(bits, rows, cols);
  if (static_cast<int>(codes.shape(0)) != plane.panels || static_cast<int>(codes.shape(1)) != plane.lines ||
      codes.shape(2) != h2q::kLineLanes)
    throw std::invalid_argument("the codes do not have the shape of their plane");
  if (feedback && (static_cast<int>(feedback->shape(0)) != cols || static_cast<int>(feedback->shape(1)) != cols))
    throw std::invalid_argument("the feedback does not have the width of the matrix");
  std::function<bool(double)> report;
  if (!progress.is_none())
    report = [&](double share) {
      nb::gil_scoped_acquire acquire;
      const int going = PyObject_IsTrue(progress(share).ptr());
      if (going < 0) nb::raise_python_error();
      return going != 0;
    };
  nb::gil_scoped_release release;
  switch (h2q::encode_plane(bits, rows, cols, at(target), feedback ? at(*feedback) : nullptr, commit, lookahead,
                            codes.data(), report)) {
    case h2q::EncodeResult::not_finite: return "not finite";
    case h2q::EncodeResult::cancelled: return "cancelled";
    default: return "done";
  }
}

}  // namespace

void bind_encode(nb::module_& m) {
  m.def("encode_plane", &encode_plane, nb::arg("target"), nb::arg("bits"), nb::arg("feedback").none(),
        nb::arg("commit"), nb::arg("lookahead"), nb::arg("codes"), nb::arg("progress").none());
}
