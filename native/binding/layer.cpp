// A decoder layer, held and looked at once; and one step through it.
#include "layer.hpp"

#include <nanobind/stl/vector.h>

#include <algorithm>

#include "prepared.hpp"

namespace {

using Vector = In<float, 1>;

template <typename A>
int size(const A& a, int i) {
  return static_cast<int>(a.shape(i));
}

struct Layer {
  nb::list turns, stacks, vectors;  // hold what the view points into
  Borders at;
  h2q::LayerView view{};
  Layer(const Layer&) = delete;

  // vectors: input_norm, post_norm, q_norm, k_norm, after_attention, after_mlp, then the biases of the stacks; or None.
  Layer(nb::list t, nb::list s, nb::list v, int heads, int kv_heads, int head_dim, float eps, float scale, int window,
        float softcap, float multiplier, bool gaussian)
      : turns(t), stacks(s), vectors(v) {
    require(turns.size() == 4 && stacks.size() == 7 && vectors.size() == 13, "a layer has 4 rotations and 7 matrices");
    require(heads > 0 && kv_heads > 0 && heads % kv_heads == 0 && head_dim > 0 && window >= 0,
            "a layer cannot have such heads");
    for (size_t i = 0; i < 4; ++i) view.turns[i] = nb::cast<const Turn&>(turns[i]).view;
    for (size_t i = 0; i < 7; ++i) {
      const auto& planes = nb::cast<const Stack&>(stacks[i]).views;
      view.stacks[i] = {planes.data(), static_cast<int>(planes.size())};
    }
    const int width = view.turns[0].width, inner = view.stacks[4].rows(), queries = heads * head_dim,
              keys = kv_heads * head_dim;
    const int rows[] = {queries, keys, keys, width, inner, inner, width};
    const int cols[] = {width, width, width, queries, width, width, inner};
    const int reads[] = {0, 0, 0, 1, 2, 2, 3};
    for (int i = 0; i < 7; ++i) {
      const auto& plane = view.stacks[i].planes[0];
      require(plane.rows == rows[i] && plane.cols == cols[i] && view.turns[reads[i]].width == cols[i],
              "the matrices of a layer do not fit each other");
    }
    const float** norms[] = {&view.input_norm, &view.post_norm,       &view.q_norm,
                             &view.k_norm,     &view.after_attention, &view.after_mlp};
    const int widths[] = {width, width, head_dim, head_dim, width, width};
    for (int i = 0; i < 6; ++i) *norms[i] = vector(i, widths[i]);
    require(view.input_norm && view.post_norm, "a layer has two norms at least");
    for (int i = 0; i < 7; ++i) view.biases[i] = vector(6 + i, rows[i]);
    view.width = width, view.heads = heads, view.kv_heads = kv_heads, view.head_dim = head_dim, view.window = window;
    view.eps = eps, view.scale = scale, view.softcap = softcap, view.multiplier = multiplier, view.gaussian = gaussian;
  }

 private:
  const float* vector(int index, int width) {
    const nb::handle item = vectors[static_cast<size_t>(index)];
    if (item.is_none()) return nullptr;
    Vector found;
    require(nb::try_cast(item, found, false) && size(found, 0) == width, "a norm or bias does not fit its layer");
    return at(found);
  }
};

int run_layer(const Layer& layer, const Pages& pages, In<float, 2> x, std::optional<In<float, 2>> cos,
              std::optional<In<float, 2>> sin, In<int64_t, 1> slots, In<int32_t, 2> tables, In<int32_t, 1> streams,
              In<int32_t, 1> seen, Array<float, 2> out) {
  Borders at;
  const auto& l = layer.view;
  const auto& p = pages.view;
  const int rows = size(x, 0);
  require(size(x, 1) == l.width && size(out, 0) == rows && size(out, 1) == l.width, "the stream does not fit the layer");
  require(p.kv_heads == l.kv_heads && p.key_dim == l.head_dim && p.value_dim == l.head_dim,
          "the pages do not fit the layer");
  require(size(slots, 0) == rows && size(streams, 0) == rows && size(seen, 0) == rows,
          "there is not one slot, one stream and one end for every row");
  require(cos.has_value() == sin.has_value(), "there is a cosine for every sine");
  h2q::StepView step{cos ? at(*cos) : nullptr, sin ? at(*sin) : nullptr, at(slots), at(tables), at(streams), at(seen),
                     rows, cos ? 2 * size(*cos, 1) : 0, size(tables, 1)};
  if (cos)
    require(size(*cos, 0) == rows && size(*sin, 0) == rows && size(*sin, 1) == size(*cos, 1) &&
                step.turned <= l.head_dim,
            "the angles do not fit the layer");
  require_slots(p, step.slots, rows);
  require_tables(p, step.tables, size(tables, 0), step.most_pages, step.streams, step.seen, rows, l.window);
  const float* from = at(x);
  float* to = out.data();
  require(from + x.size() <= to || to + out.size() <= from, "a layer cannot write where it reads");
  nb::gil_scoped_release release;
  return static_cast<int>(h2q::run_layer(l, p, step, from, to));
}

}  // namespace

void bind_layer(nb::module_& m) {
  nb::class_<Layer>(m, "Layer")
      .def(nb::init<nb::list, nb::list, nb::list, int, int, int, float, float, int, float, float, bool>());
  m.def("run_layer", &run_layer, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg().none(), nb::arg(),
        nb::arg(), nb::arg(), nb::arg(), nb::arg());
}
