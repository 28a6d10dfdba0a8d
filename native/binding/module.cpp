// The seam to Python: check shapes, release the interpreter lock, call. Names and shapes as in h2q/kernels/native.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cores.hpp"
#include "dispatch.hpp"
#include "pool.hpp"
#include "references.hpp"
#include "views.hpp"

namespace nb = nanobind;

void bind_encode(nb::module_& m);
void bind_layer(nb::module_& m);
void bind_pages(nb::module_& m);
void bind_prepared(nb::module_& m);

namespace {

void rotate(In<float, 2> x, In<float, 1> signs, In<float, 2> mix, int block, bool inverse, Array<float, 2> out) {
  Borders at;
  const auto view = rotation_view(at, signs, mix, block);
  require(static_cast<int>(x.shape(1)) == view.width && out.shape(0) == x.shape(0) && out.shape(1) == x.shape(1),
          "the input does not have the width of its rotation");
  nb::gil_scoped_release release;
  h2q::rotate_tokens(view, at(x), out.data(), static_cast<int>(x.shape(0)), inverse);
}

bool quantize(In<float, 2> x, Array<int8_t, 2> codes, Array<float, 1> scale, Array<int32_t, 1> sums) {
  Borders at;
  const size_t tokens = x.shape(0);
  require(codes.shape(0) == tokens && scale.shape(0) == tokens && sums.shape(0) == tokens &&
              codes.shape(1) >= x.shape(1),
          "the outputs do not fit the input");
  nb::gil_scoped_release release;
  return h2q::quantize_tokens(at(x), static_cast<int>(tokens), static_cast<int>(x.shape(1)),
                              static_cast<int>(codes.shape(1)), codes.data(), scale.data(), sums.data());
}

bool rotate_quantize(In<float, 2> x, In<float, 1> signs, In<float, 2> mix, int block, Array<int8_t, 2> codes,
                     Array<float, 1> scale, Array<int32_t, 1> sums) {
  Borders at;
  const auto view = rotation_view(at, signs, mix, block);
  const size_t tokens = x.shape(0);
  require(static_cast<int>(x.shape(1)) == view.width, "the input does not have the width of its rotation");
  require(codes.shape(0) == tokens && scale.shape(0) == tokens && sums.shape(0) == tokens &&
              codes.shape(1) >= x.shape(1),
          "the outputs do not fit the input");
  nb::gil_scoped_release release;
  return h2q::rotate_quantize_tokens(view, at(x), static_cast<int>(tokens), static_cast<int>(codes.shape(1)),
                                     codes.data(), scale.data(), sums.data());
}

// Weights are float32, or uint16 that hold bfloat16.
template <typename T>
void matmul_dense(In<float, 2> x, In<T, 2> weights, Array<float, 2> out) {
  Borders at;
  require(x.shape(1) == weights.shape(1) && out.shape(0) == x.shape(0) && out.shape(1) == weights.shape(0),
          "the weights do not fit the input or the output");
  h2q::DenseView view{at(x), nullptr, nullptr, out.data(), static_cast<int>(x.shape(0)),
                      static_cast<int>(weights.shape(0)), static_cast<int>(x.shape(1))};
  if constexpr (sizeof(T) == 4) view.wide = at(weights);
  else view.narrow = at(weights);
  nb::gil_scoped_release release;
  h2q::dense(view);
}

void matmul_planes(In<int8_t, 2> codes, In<float, 1> scale, In<int32_t, 1> sums, nb::list planes, Array<float, 2> out) {
  Borders at;
  const auto views = plane_views(at, planes);
  const size_t tokens = codes.shape(0);
  require(static_cast<int>(codes.shape(1)) >= views[0].cols && scale.shape(0) == tokens && sums.shape(0) == tokens,
          "the activations do not fit the planes");
  for (const auto& view : views)
    require(static_cast<int>(codes.shape(1)) >= view.padded_cols, "the activations are not padded for the planes");
  require(out.shape(0) == tokens && static_cast<int>(out.shape(1)) == views[0].rows, "the output does not fit");
  const h2q::ActivationView x{codes.data(), at(scale), at(sums), static_cast<int>(tokens),
                              static_cast<int>(codes.shape(1))};
  nb::gil_scoped_release release;
  h2q::matmul(views.data(), static_cast<int>(views.size()), x, out.data());
}

void matmul_rounded(In<int8_t, 2> codes, In<float, 1> scale, In<int32_t, 1> sums, In<uint8_t, 4> levels,
                    In<float, 1> scales, Array<float, 2> out) {
  Borders at;
  const size_t tokens = codes.shape(0), rows = scales.shape(0), groups = levels.shape(1);
  require(levels.shape(2) == 16 && levels.shape(3) == 4 && levels.shape(0) == (rows + 15) / 16,
          "the levels do not have the shape of their matrix");
  require(codes.shape(1) >= 4 * groups && scale.shape(0) == tokens && sums.shape(0) == tokens,
          "the activations do not fit the matrix");
  require(out.shape(0) == tokens && out.shape(1) == rows, "the output does not fit");
  const h2q::RoundedView view{levels.data(),           at(scales),             nullptr,
                              at(scale),               at(sums),               out.data(),
                              static_cast<int>(tokens), static_cast<int>(rows), static_cast<int>(groups)};
  nb::gil_scoped_release release;
  h2q::matmul_rounded(view, codes.data(), static_cast<int>(codes.shape(1)));
}

void gather_rows(nb::list planes, In<int64_t, 1> ids, Array<float, 2> out) {
  Borders at;
  const auto views = plane_views(at, planes);
  require(out.shape(0) == ids.shape(0) && static_cast<int>(out.shape(1)) == views[0].cols, "the output does not fit");
  const int64_t* rows = at(ids);
  for (size_t i = 0; i < ids.shape(0); ++i)
    require(rows[i] >= 0 && rows[i] < views[0].rows, "a row lies outside the matrix");
  nb::gil_scoped_release release;
  h2q::gather(views.data(), static_cast<int>(views.size()), rows, static_cast<int>(ids.shape(0)), out.data());
}

void decode_plane(int bits, int rows, int cols, In<uint8_t, 3> codes, Array<int8_t, 2> out) {
  auto view = h2q::plane_layout(bits, rows, cols);
  require(static_cast<int>(codes.shape(0)) == view.panels && static_cast<int>(codes.shape(1)) == view.lines &&
              codes.shape(2) == h2q::kLineLanes,
          "the codes do not have the shape of their plane");
  require(static_cast<int>(out.shape(0)) == rows && static_cast<int>(out.shape(1)) == cols, "the output does not fit");
  view.codes = codes.data();
  nb::gil_scoped_release release;
  h2q::decode(view, out.data());
}

void rms_norm(In<float, 2> x, In<float, 1> weight, float eps, Array<float, 2> out) {
  Borders at;
  require(weight.shape(0) == x.shape(1) && out.shape(0) == x.shape(0) && out.shape(1) == x.shape(1),
          "the norm does not fit its input");
  nb::gil_scoped_release release;
  h2q::normalise(at(x), at(weight), eps, static_cast<int>(x.shape(0)), static_cast<int>(x.shape(1)), out.data());
}

void add_rms_norm(In<float, 2> x, In<float, 2> delta, In<float, 1> weight, float eps, Array<float, 2> total,
                  Array<float, 2> out) {
  Borders at;
  for (int i = 0; i < 2; ++i)
    require(delta.shape(i) == x.shape(i) && total.shape(i) == x.shape(i) && out.shape(i) == x.shape(i),
            "what is added and the outputs do not fit the input");
  require(weight.shape(0) == x.shape(1), "the norm does not fit its input");
  nb::gil_scoped_release release;
  h2q::add_and_normalise(at(x), at(delta), at(weight), eps, static_cast<int>(x.shape(0)), static_cast<int>(x.shape(1)),
                         total.data(), out.data());
}

bool softmax_top(In<float, 2> logits, Array<float, 1> best, Array<double, 1> norm, Array<double, 1> product,
                 Array<int64_t, 2> ids) {
  Borders at;
  const size_t tokens = logits.shape(0), k = ids.shape(1);
  require(k > 0 && k <= logits.shape(1), "so many of the entries cannot be given");
  require(best.shape(0) == tokens && norm.shape(0) == tokens && product.shape(0) == tokens && ids.shape(0) == tokens,
          "the outputs do not fit the logits");
  nb::gil_scoped_release release;
  return h2q::softmax_top(at(logits), static_cast<int>(tokens), static_cast<int>(logits.shape(1)), static_cast<int>(k),
                          best.data(), norm.data(), product.data(), ids.data());
}

template <auto kForm>
void gated(In<float, 2> gate, In<float, 2> up, Array<float, 2> out) {
  Borders at;
  require(gate.size() == up.size() && gate.size() == out.size(), "gate and up differ in shape");
  nb::gil_scoped_release release;
  kForm(at(gate), at(up), static_cast<int64_t>(gate.size()), out.data());
}

void rope(In<float, 3> x, In<float, 2> cos, In<float, 2> sin, Array<float, 3> out) {
  Borders at;
  require(cos.shape(0) == x.shape(0) && sin.shape(0) == x.shape(0) && 2 * cos.shape(1) == x.shape(2) &&
              2 * sin.shape(1) == x.shape(2) && out.size() == x.size(),
          "the angles do not fit the input");
  nb::gil_scoped_release release;
  h2q::positions(at(x), at(cos), at(sin), static_cast<int>(x.shape(0)), static_cast<int>(x.shape(1)),
                 static_cast<int>(x.shape(2)), out.data());
}

void attention(In<float, 4> q, In<float, 4> k, In<float, 4> v, int start, float scale, int window, float softcap,
               std::optional<In<float, 1>> sinks, Array<float, 4> out) {
  Borders at;
  for (int i = 0; i < 3; ++i)
    require(k.shape(i) == v.shape(i) && q.shape(i) == out.shape(i), "keys and values, or query and output, differ");
  require(v.shape(3) == out.shape(3), "values and output differ");
  require(!sinks || sinks->shape(0) == q.shape(2), "there is not one sink for every head");
  require(window >= 0, "a window cannot be negative");
  require(k.shape(0) == q.shape(0) && k.shape(3) == q.shape(3) && k.shape(1) > 0 && q.shape(2) % k.shape(1) == 0,
          "the query does not fit the cache");
  require(start >= 0 && static_cast<size_t>(start) + q.shape(1) <= k.shape(2), "the cache is too short");
  const auto size = [&](const auto& a, int i) { return static_cast<int>(a.shape(i)); };
  const h2q::AttentionView view{at(q),      at(k),      at(v),      sinks ? at(*sinks) : nullptr,
                                out.data(), size(q, 0), size(q, 1), size(q, 2),
                                size(k, 1), size(k, 2), size(q, 3), size(v, 3),
                                start,      window,     scale,      softcap};
  nb::gil_scoped_release release;
  h2q::attention(view);
}

nb::dict features() {
  nb::dict out;
  for (const auto& feature : h2q::features()) {
    nb::dict row;
    row["found"] = feature.found;
    row["executed"] = feature.executed;
    out[feature.name.c_str()] = row;
  }
  return out;
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "C++ kernels of h2q. Use h2q.kernels.";
  nb::set_leak_warnings(false);  // a model's thread may hold its planes when the process ends
  m.def("set_code_tables", [](int bits, In<uint8_t, 1> columns, In<int8_t, 1> levels) {
    require(columns.shape(0) == h2q::kWindow && levels.shape(0) == 32, "a code has 12 columns and 32 levels");
    h2q::set_code_tables(bits, columns.data(), levels.data());
  });
  m.def("features", &features);
  m.def("paths", [] {
    std::vector<std::string> out;
    for (const auto* ops : h2q::usable_paths()) out.emplace_back(ops->name);
    return out;
  });
  m.def("use", [](const std::string& path) { h2q::use(path); });
  m.def("cores", [] {
    const h2q::Cores cores = h2q::usable_cores();
    return std::pair(cores.performance, cores.efficiency);
  });
  m.def("set_threads", &h2q::set_pool_threads, nb::call_guard<nb::gil_scoped_release>());
  m.def("threads", &h2q::pool_threads);
  m.def("rotate", &rotate);
  m.def("quantize", &quantize);
  m.def("rotate_quantize", &rotate_quantize);
  m.def("matmul_dense", &matmul_dense<float>);
  m.def("matmul_dense", &matmul_dense<uint16_t>);
  m.def("matmul_planes", &matmul_planes, nb::arg("codes").noconvert(), nb::arg("scale").noconvert(),
        nb::arg("sums").noconvert(), nb::arg("planes"), nb::arg("out").noconvert());
  m.def("matmul_rounded", &matmul_rounded, nb::arg("codes").noconvert(), nb::arg("scale").noconvert(),
        nb::arg("sums").noconvert(), nb::arg("levels").noconvert(), nb::arg("scales").noconvert(),
        nb::arg("out").noconvert());
  m.def("gather_rows", &gather_rows, nb::arg("planes"), nb::arg("ids").noconvert(), nb::arg("out").noconvert());
  m.def("decode_plane", &decode_plane, nb::arg("bits"), nb::arg("rows"), nb::arg("cols"),
        nb::arg("codes").noconvert(), nb::arg("out").noconvert());
  m.def("rms_norm", &rms_norm);
  m.def("add_rms_norm", &add_rms_norm);
  m.def("softmax_top", &softmax_top);
  m.def("swiglu", &gated<&h2q::gate>);
  m.def("geglu", &gated<&h2q::gate_gaussian>);
  m.def("clamped_swiglu", &gated<&h2q::gate_clamped>);
  m.def("rope", &rope);
  m.def("attention", &attention, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
        nb::arg().none(), nb::arg());
  m.def("read_forms", &h2q::read_forms);
  m.def("read_words", [](In<uint64_t, 1> words, int form) {
    require(form >= 0 && form < h2q::read_forms(), "there is no such way to read");
    nb::gil_scoped_release release;
    return h2q::read_words(words.data(), static_cast<int64_t>(words.shape(0)), form);
  });
  m.def("repeat_dots", &h2q::repeat_dots, nb::call_guard<nb::gil_scoped_release>());
  m.def("synchronise", &h2q::synchronise, nb::call_guard<nb::gil_scoped_release>());
  bind_encode(m);
  bind_layer(m);
  bind_pages(m);
  bind_prepared(m);
}
