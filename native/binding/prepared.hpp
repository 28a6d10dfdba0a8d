// What is kept prepared between calls: the planes of a matrix, the pages of a layer; and the checks of what comes with
// them.
#pragma once
#include <nanobind/stl/optional.h>

#include <optional>

#include "views.hpp"

// The planes of one matrix, whose arrays are held.
struct Stack {
  nb::list planes;
  Borders at;
  std::vector<h2q::PlaneView> views;
  Stack(const Stack&) = delete;
  explicit Stack(nb::list p) : planes(p), views(plane_views(at, planes)) {}
};

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

// Every slot lies in a page.
void require_slots(const h2q::PagesView&, const int64_t* slots, int rows);
// Every row belongs to a stream, and all pages it sees are there.
void require_tables(const h2q::PagesView&, const int32_t* tables, int tables_count, int most, const int32_t* streams,
                    const int32_t* seen, int rows, int window);
