// A decoder layer, held and looked at once; and one step through it.
#include "layer.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <utility>
#include <vector>

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

// turns: for every layer which of the angles (cos, sin, one after the other) turn it, or -1. Returns the first layer's
// fault, and which layer it is.
std::pair<int, int> run_layers(nb::list layers, nb::list pages, In<int32_t, 1> turns, In<float, 2> x,
                               std::vector<In<float, 2>> angles, In<int64_t, 1> slots, In<int32_t, 2> tables,
                               In<int32_t, 1> streams, In<int32_t, 1> seen, Array<float, 2> out) {
  Borders at;
  const int rows = size(x, 0), width = size(x, 1), count = static_cast<int>(layers.size());
  require(count > 0 && static_cast<int>(pages.size()) == count && size(turns, 0) == count,
          "there are not pages and a turn for every layer");
  require(size(out, 0) == rows && size(out, 1) == width, "the output does not fit the stream");
  require(size(slots, 0) == rows && size(streams, 0) == rows && size(seen, 0) == rows,
          "there is not one slot, one stream and one end for every row");
  require(angles.size() % 2 == 0, "there is a cosine for every sine");
  std::vector<const float*> tables_of_angles;
  for (const auto& table : angles) tables_of_angles.push_back(at(table));
  const int64_t* where = at(slots);
  const int32_t *table = at(tables), *stream = at(streams), *ends = at(seen), *turned = at(turns);
  std::vector<const h2q::LayerView*> views;
  std::vector<const h2q::PagesView*> kept;
  std::vector<h2q::StepView> steps;
  for (int i = 0; i < count; ++i) {
    const auto& l = nb::cast<const Layer&>(layers[static_cast<size_t>(i)]).view;
    const auto& p = nb::cast<const Pages&>(pages[static_cast<size_t>(i)]).view;
    require(l.width == width, "the stream does not fit the layer");
    require(p.kv_heads == l.kv_heads && p.key_dim == l.head_dim && p.value_dim == l.head_dim,
            "the pages do not fit the layer");
    h2q::StepView step{nullptr, nullptr, where, table, stream, ends, rows, 0, size(tables, 1)};
    if (turned[i] >= 0) {
      const size_t pair = 2 * static_cast<size_t>(turned[i]);
      require(pair < angles.size(), "a layer is turned by angles that are not there");
      const auto &cos = angles[pair], &sin = angles[pair + 1];
      step.cos = tables_of_angles[pair], step.sin = tables_of_angles[pair + 1], step.turned = 2 * size(cos, 1);
      require(size(cos, 0) == rows && size(sin, 0) == rows && size(sin, 1) == size(cos, 1) && step.turned <= l.head_dim,
              "the angles do not fit the layer");
    }
    require_slots(p, where, rows);
    require_tables(p, table, size(tables, 0), step.most_pages, stream, ends, rows, l.window);
    views.push_back(&l), kept.push_back(&p), steps.push_back(step);
  }
  const float* from = at(x);
  float* to = out.data();
  require(from + x.size() <= to || to + out.size() <= from, "a layer cannot write where it reads");
  nb::gil_scoped_release release;
  thread_local std::vector<float> spare;
  if (spare.size() < out.size()) spare.resize(out.size());
  for (int i = 0; i < count; ++i) {
    float* next = (count - i) % 2 == 1 ? to : spare.data();  // the last writes the output
    const auto fault = h2q::run_layer(*views[static_cast<size_t>(i)], *kept[static_cast<size_t>(i)],
                                      steps[static_cast<size_t>(i)], from, next);
    if (fault != h2q::Fault::none) return {i, static_cast<int>(fault)};
    from = next;
  }
  return {0, 0};
}

}  // namespace

void bind_layer(nb::module_& m) {
  nb::class_<Layer>(m, "Layer")
      .def(nb::init<nb::list, nb::list, nb::list, int, int, int, float, float, int, float, float, bool>());
  m.def("run_layers", &run_layers);
}
