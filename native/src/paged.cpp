// Attention over pages: rows of one stream and one key head make units of at most kMostQueries queries; where there are
// few units, each is cut into ranges of pages, whose states whoever comes last joins in order.
#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "dispatch.hpp"
#include "pool.hpp"

namespace h2q {
namespace {

constexpr int kBest = 16;                  // where a state has its best score
constexpr int kMostQueries = 64;           // whose words and weights stay in the nearest caches
constexpr int64_t kSmallWork = 1 << 17;    // pairs of products, below which threads are not worth waking
constexpr int kFewestPages = 4;            // of a range
constexpr int64_t kMostStates = 4 << 20;   // floats of all ranges' states

template <typename T>
T* reserve(std::vector<T>& scratch, size_t count) {
  if (scratch.size() < count) scratch.resize(count);
  return scratch.data();
}

// Queries [from, to) of rows [row, ...) in order, for each of some key heads: query i is head i % group of row i / group.
// Heads lie side by side in a page, and memory is fastest when it is read on and on.
struct Unit {
  int row, from, to, kv_head, heads, first_page, last_page;
  int each() const { return to - from; }
  int count() const { return heads * each(); }
  int64_t states;  // where those of its pages begin, when they are kept
};

class Attention {
 public:
  explicit Attention(const PagedView& a)
      : ops_(active()), a_(a), group_(a.heads / a.pages.kv_heads), order_(static_cast<size_t>(a.rows)) {
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int i, int j) { return a_.streams[i] < a_.streams[j]; });
    int chunks = 0;
    const auto streams = [&](const auto& visit) {
      for (int begin = 0, end; begin < a.rows; begin = end) {
        for (end = begin + 1; end < a.rows && stream(end) == stream(begin);) ++end;
        visit(begin, (end - begin) * group_);
      }
    };
    streams([&](int, int queries) { chunks += chunks_of(queries); });
    const int kv_heads = a.pages.kv_heads, wanted = std::min(kv_heads, (pool_threads() + chunks - 1) / chunks);
    streams([&](int row, int queries) {
      const int parts = chunks_of(queries), each = (queries + parts - 1) / parts;
      const int most = std::max(1, std::min(kMostQueries / each, kv_heads / wanted));
      for (int part = parts; part--;)  // what sees most comes first
        for (int head = 0; head < kv_heads; head += most)
          add_unit(row, static_cast<int>(int64_t{queries} * part / parts),
                   static_cast<int>(int64_t{queries} * (part + 1) / parts), head, std::min(most, kv_heads - head));
    });
  }

  bool run() {
    const int count = static_cast<int>(units_.size()), threads = work_ < kSmallWork ? 1 : pool_threads();
    if (threads == 1) {
      for (const Unit& unit : units_) whole(unit);
      return finite_;
    }
    int ranges = 1;
    if (count < threads) ranges = std::clamp((threads + count - 1) / count, 1, std::max(1, most_pages_ / kFewestPages));
    int64_t states = 0;
    for (Unit& unit : units_) {
      unit.states = states;
      states += int64_t{unit.last_page - unit.first_page} * at(unit.count());
    }
    if (ranges == 1 || states > kMostStates) {
      parallel_for(count, [&](int i, int) { whole(units_[static_cast<size_t>(i)]); });
      return finite_;
    }
    thread_local std::vector<float> scratch;
    float* kept = reserve(scratch, static_cast<size_t>(states));
    const std::unique_ptr<std::atomic<int>[]> left(new std::atomic<int>[static_cast<size_t>(count)]);
    for (int i = 0; i < count; ++i) left[static_cast<size_t>(i)] = ranges;
    parallel_for(count * ranges, [&](int index, int) {
      const size_t i = static_cast<size_t>(index / ranges);
      const Unit& unit = units_[i];
      const int64_t pages = unit.last_page - unit.first_page, part = index % ranges;
      const Queries queries(*this, unit);
      for (int page = static_cast<int>(pages * part / ranges); page < pages * (part + 1) / ranges; ++page)
        visit(unit, queries, unit.first_page + page, kept + state_of(unit, page));
      if (left[i].fetch_sub(1) > 1) return;
      std::vector<float> state = fresh(unit);
      for (int page = 0; page < pages; ++page)
        join(unit, queries, unit.first_page + page, kept + state_of(unit, page), state.data());
      finish(unit, state);
    });
    return finite_;
  }

 private:
  // Those of a unit, made ready.
  struct Queries {
    std::vector<int32_t> words;
    std::vector<float> factors;
    std::vector<int> first, end;  // the same for every key head

    Queries(Attention& all, const Unit& unit)
        : words(static_cast<size_t>(unit.count()) * static_cast<size_t>(all.a_.pages.query_size())),
          factors(static_cast<size_t>(unit.count())), first(static_cast<size_t>(unit.each())), end(first.size()) {
      const PagedView& a = all.a_;
      for (int q = 0; q < unit.count(); ++q)
        if (!all.ops_.prepare_query(a.pages, a.q + all.head_of(unit, q) * a.pages.key_dim, a.scale,
                                    words.data() + int64_t{q} * a.pages.query_size(), &factors[static_cast<size_t>(q)]))
          all.finite_ = false;
      for (int q = 0; q < unit.each(); ++q) {
        const int last = a.seen[all.row_of(unit, unit.from + q)];
        end[static_cast<size_t>(q)] = last, first[static_cast<size_t>(q)] = all.first_of(last);
      }
    }
    bool sees(int q, int page) const {
      return first[static_cast<size_t>(q)] < (page + 1) * kPage && end[static_cast<size_t>(q)] > page * kPage;
    }
    // Those of the unit's key head h.
    QueriesView view(const Attention& all, int h) const {
      const int count = static_cast<int>(first.size());
      return {words.data() + int64_t{h} * count * all.a_.pages.query_size(), factors.data() + h * count, first.data(),
              end.data(), count, all.a_.softcap};
    }
  };

  int stream(int i) const { return a_.streams[order_[static_cast<size_t>(i)]]; }
  int first_of(int end) const { return a_.window ? std::max(0, end - a_.window) : 0; }
  int row_of(const Unit& unit, int query) const { return order_[static_cast<size_t>(unit.row + query / group_)]; }
  // Of query q of a unit's count: its head, and which of all rows' heads it is in the order of q and out.
  int within_row(const Unit& unit, int q) const {
    return (unit.kv_head + q / unit.each()) * group_ + (unit.from + q % unit.each()) % group_;
  }
  int64_t head_of(const Unit& unit, int q) const {
    return int64_t{row_of(unit, unit.from + q % unit.each())} * a_.heads + within_row(unit, q);
  }
  static int chunks_of(int queries) { return (queries + kMostQueries - 1) / kMostQueries; }
  int64_t at(int query) const { return int64_t{query} * a_.pages.state_size(); }
  int64_t state_of(const Unit& unit, int page) const { return unit.states + int64_t{page} * at(unit.count()); }

  void add_unit(int row, int from, int to, int head, int heads) {
    Unit unit{row, from, to, head, heads, a_.most_pages, 0, 0};
    for (int i = from / group_; i <= (to - 1) / group_; ++i) {
      const int end = a_.seen[order_[static_cast<size_t>(row + i)]], first = first_of(end);
      unit.first_page = std::min(unit.first_page, first / kPage);
      unit.last_page = std::max(unit.last_page, (end + kPage - 1) / kPage);
    }
    const int pages = unit.last_page - unit.first_page;
    most_pages_ = std::max(most_pages_, pages);
    work_ += int64_t{pages} * heads * (to - from + 2) * (a_.pages.key_dim + a_.pages.value_dim) * (kPage / 2);
    units_.push_back(unit);
  }

  // States of the queries that see a page; they come in runs.
  void visit(const Unit& unit, const Queries& queries, int page, float* states) const {
    const int32_t* table = a_.tables + int64_t{stream(unit.row)} * a_.most_pages;
    for (int h = 0; h < unit.heads; ++h) {
      const QueriesView view = queries.view(*this, h);
      int next = page + 1 < unit.last_page ? table[page + 1] : -1;
      for (int from = 0, to; from < view.count; from = to) {
        for (to = from; to < view.count && queries.sees(to, page);) ++to;
        if (to == from) {
          ++to;
          continue;
        }
        ops_.page_part(a_.pages, view, from, to, page, table[page], next, unit.kv_head + h,
                       states + at(h * view.count + from));
        next = -1;
      }
    }
  }
  void join(const Unit& unit, const Queries& queries, int page, const float* parts, float* state) const {
    for (int q = 0; q < unit.count(); ++q)
      if (queries.sees(q % unit.each(), page)) ops_.join_pages(a_.pages, parts + at(q), state + at(q));
  }

  std::vector<float> fresh(const Unit& unit) const {
    std::vector<float> state(static_cast<size_t>(at(unit.count())));
    for (int q = 0; q < unit.count(); ++q) {
      const float* sink = sink_of(unit, q);
      state[static_cast<size_t>(at(q)) + kBest] = sink ? *sink : -std::numeric_limits<float>::infinity();
    }
    return state;
  }
  const float* sink_of(const Unit& unit, int q) const { return a_.sinks ? a_.sinks + within_row(unit, q) : nullptr; }
  void finish(const Unit& unit, const std::vector<float>& state) const {
    for (int q = 0; q < unit.count(); ++q)
      ops_.finish_query(a_.pages, state.data() + at(q), sink_of(unit, q), a_.out + head_of(unit, q) * a_.pages.value_dim);
  }

  void whole(const Unit& unit) {
    thread_local std::vector<float> scratch;
    float* states = reserve(scratch, static_cast<size_t>(at(unit.count())));
    const Queries queries(*this, unit);
    std::vector<float> state = fresh(unit);
    for (int page = unit.first_page; page < unit.last_page; ++page) {
      visit(unit, queries, page, states);
      join(unit, queries, page, states, state.data());
    }
    finish(unit, state);
  }

  const Ops& ops_;
  const PagedView& a_;
  int group_, most_pages_ = 0;
  int64_t work_ = 0;
  std::vector<int> order_;
  std::vector<Unit> units_;
  std::atomic<bool> finite_{true};
};

}  // namespace

bool store_rows(const PagesView& pages, const float* k, const float* v, const int64_t* slots, int rows) {
  const Ops& ops = active();
  std::atomic<bool> finite{true};
  const auto head = [&](int h, int) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t at = row * pages.kv_heads + h;
      const int page = static_cast<int>(slots[row] / kPage), offset = static_cast<int>(slots[row] % kPage);
      if (!ops.store_head(pages, k + at * pages.key_dim, v + at * pages.value_dim, page, h, offset)) finite = false;
    }
  };
  if (int64_t{rows} * pages.kv_heads * (pages.key_dim + pages.value_dim) < 1 << 14)
    for (int h = 0; h < pages.kv_heads; ++h) head(h, 0);
  else
    parallel_for(pages.kv_heads, head);
  return finite;
}

bool attend_rows(const PagedView& view) { return view.rows == 0 || Attention(view).run(); }

}  // namespace h2q
