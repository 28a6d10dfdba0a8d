// Pages of keys and values, held and looked at once; storing rows and attention over them.
#include "prepared.hpp"

void require_slots(const h2q::PagesView& pages, const int64_t* slots, int rows) {
  for (int i = 0; i < rows; ++i)
    require(slots[i] >= 0 && slots[i] < int64_t{pages.pages} * h2q::kPage, "a slot lies outside the pages");
}

void require_tables(const h2q::PagesView& pages, const int32_t* tables, int tables_count, int most,
                    const int32_t* streams, const int32_t* seen, int rows, int window) {
  for (int row = 0; row < rows; ++row) {
    const int stream = streams[row], end = seen[row];
    require(stream >= 0 && stream < tables_count, "a row belongs to a stream that has no table");
    require(end > 0 && end <= int64_t{most} * h2q::kPage, "a row sees nothing, or positions beyond its table");
    const int first = window && window < end ? end - window : 0;
    for (int page = first / h2q::kPage; page <= (end - 1) / h2q::kPage; ++page) {
      const int id = tables[int64_t{stream} * most + page];
      require(id >= 0 && id < pages.pages, "a table names a page that is not there");
    }
  }
}

namespace {

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
  require_slots(p, where, size(slots, 0));
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
  require_tables(p, view.tables, size(tables, 0), most, view.streams, view.seen, rows, window);
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
