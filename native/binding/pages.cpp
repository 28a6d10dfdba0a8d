// Pages of keys and values, held and looked at once; storing rows and attention over them.
#include <nanobind/stl/optional.h>

#include <optional>

#include "views.hpp"

namespace {

using Memory = nb::ndarray<nb::c_contig, nb::device::cpu>;
using Scales = std::optional<Array<float, 3>>;

struct Pages {
  Memory keys, values;
  Scales key_scales, value_scales;
  nb::object key_turn, value_turn;
  h2q::PagesView view;

  Pages(int kind, int key_dim, int value_dim, Memory k, Memory v, Scales ks, Scales vs, nb::object kt, nb::object vt)
      : keys(k), values(v), key_scales(ks), value_scales(vs), key_turn(kt), value_turn(vt) {
    require(kind >= 0 && kind < 3 && key_dim > 0 && value_dim > 0 && keys.ndim() > 2 && values.ndim() > 2,
            "there are no such pages");
    view = {static_cast<h2q::PageKind>(kind),
            static_cast<int>(keys.shape(0)),
            static_cast<int>(keys.shape(1)),
            key_dim,
            value_dim,
            keys.data(),
            values.data(),
            key_scales ? key_scales->data() : nullptr,
            value_scales ? value_scales->data() : nullptr,
            nb::cast<const Turn&>(key_turn).view,
            nb::cast<const Turn&>(value_turn).view};
    const int64_t blocks = view.block(view.pages, 0);
    require(values.shape(0) == keys.shape(0) && values.shape(1) == keys.shape(1) &&
                static_cast<int64_t>(keys.nbytes()) == blocks * view.key_bytes() &&
                static_cast<int64_t>(values.nbytes()) == blocks * view.value_bytes(),
            "the pages do not have the size of their kind");
    require(view.key_turn.width == key_dim && view.value_turn.width == value_dim, "the rotations do not fit the pages");
    require(key_scales.has_value() == view.rounded() && value_scales.has_value() == view.rounded(),
            "rounded pages have scales, others none");
    if (view.rounded())
      require(static_cast<int64_t>(key_scales->size()) == blocks * h2q::kPage &&
                  static_cast<int64_t>(value_scales->size()) == blocks * h2q::kPage,
              "there is not one scale for every position");
  }
};

template <typename A>
int size(const A& a, int i) {
  return static_cast<int>(a.shape(i));
}

bool store_pages(const Pages& pages, In<float, 3> k, In<float, 3> v, In<int64_t, 1> slots) {
  Borders at;
  const auto& p = pages.view;
  require(size(k, 1) == p.kv_heads && size(v, 1) == p.kv_heads && size(k, 2) == p.key_dim && size(v, 2) == p.value_dim &&
              k.shape(0) == slots.shape(0) && v.shape(0) == slots.shape(0),
          "keys, values and slots do not fit the pages");
  const int64_t* where = at(slots);
  for (size_t i = 0; i < slots.shape(0); ++i)
    require(where[i] >= 0 && where[i] < int64_t{p.pages} * h2q::kPage, "a slot lies outside the pages");
  const float *keys = at(k), *values = at(v);
  nb::gil_scoped_release release;
  return h2q::store_rows(p, keys, values, where, size(slots, 0));
}

bool attend_pages(const Pages& pages, In<float, 3> q, In<int32_t, 2> tables, In<int32_t, 1> streams, In<int32_t, 1> seen,
                  float scale, int window, float softcap, std::optional<In<float, 1>> sinks, Array<float, 2> out) {
  Borders at;
  const auto& p = pages.view;
  const int rows = size(q, 0), heads = size(q, 1), most = size(tables, 1);
  require(size(q, 2) == p.key_dim && heads % p.kv_heads == 0, "the query does not fit the pages");
  require(size(streams, 0) == rows && size(seen, 0) == rows && size(out, 0) == rows &&
              size(out, 1) == heads * p.value_dim,
          "there is not one stream, one end and one output for every row");
  require(!sinks || size(*sinks, 0) == heads, "there is not one sink for every head");
  require(window >= 0, "a window cannot be negative");
  const h2q::PagedView view{p,    at(q), at(tables), at(streams), at(seen), sinks ? at(*sinks) : nullptr,
                            out.data(), rows,  heads,      most,        window,   scale,
                            softcap};
  for (int row = 0; row < rows; ++row) {
    const int stream = view.streams[row], end = view.seen[row];
    require(stream >= 0 && stream < size(tables, 0), "a row belongs to a stream that has no table");
    require(end > 0 && end <= int64_t{most} * h2q::kPage, "a row sees nothing, or positions beyond its table");
    const int first = window && window < end ? end - window : 0;
    for (int page = first / h2q::kPage; page <= (end - 1) / h2q::kPage; ++page) {
      const int id = view.tables[int64_t{stream} * most + page];
      require(id >= 0 && id < p.pages, "a table names a page that is not there");
    }
  }
  nb::gil_scoped_release release;
  return h2q::attend_rows(view);
}

}  // namespace

void bind_pages(nb::module_& m) {
  nb::class_<Pages>(m, "Pages")
      .def(nb::init<int, int, int, Memory, Memory, Scales, Scales, nb::object, nb::object>(), nb::arg(), nb::arg(),
           nb::arg(), nb::arg().noconvert(), nb::arg().noconvert(), nb::arg().noconvert().none(),
           nb::arg().noconvert().none(), nb::arg(), nb::arg());
  m.def("store_pages", &store_pages);
  m.def("attend_pages", &attend_pages, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
        nb::arg(), nb::arg().none(), nb::arg());
}
