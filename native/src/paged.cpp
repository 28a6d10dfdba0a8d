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

// Queries [from, to) of rows [row, ...) in order: query i is head i % group of row i / group.
struct Unit {
  int row, from, to, kv_head, first_page, last_page;
  int64_t states;  // where those of its pages begin, when they are kept
};

class Attention {
 public:
  explicit Attention(const PagedView& a)
      : ops_(active()), a_(a), group_(a.heads / a.pages.kv_heads), order_(static_cast<size_t>(a.rows)) {
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int i, int j) { return a_.streams[i] < a_.streams[j]; });
    for (int begin = 0, end; begin < a.rows; begin = end) {
      for (end = begin + 1; end < a.rows && stream(end) == stream(begin);) ++end;
      const int queries = (end - begin) * group_, chunks = (queries + kMostQueries - 1) / kMostQueries;
      for (int chunk = chunks; chunk--;)  // what sees most comes first
        for (int head = 0; head < a.pages.kv_heads; ++head)
          add_unit(begin, static_cast<int>(int64_t{queries} * chunk / chunks),
                   static_cast<int>(int64_t{queries} * (chunk + 1) / chunks), head);
    }
  }

  bool run() {
    const int count = static_cast<int>(units_.size()), threads = work_ < kSmallWork ? 1 : pool_threads();
    if (threads == 1) {
      for (const Unit& unit : units_) whole(unit);
      return finite_;
    }
    int ranges = 1;
    if (count < 2 * threads) ranges = std::clamp((2 * threads + count - 1) / count, 1, std::max(1, most_pages_ / kFewestPages));
    int64_t states = 0;
    for (Unit& unit : units_) {
      unit.states = states;
      states += int64_t{unit.last_page - unit.first_page} * (unit.to - unit.from) * a_.pages.state_size();
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
        for (int q = 0; q < unit.to - unit.from; ++q)
          if (queries.sees(q, unit.first_page + page))
            ops_.join_pages(a_.pages, kept + state_of(unit, page) + at(q), state.data() + at(q));
      finish(unit, state);
    });
    return finite_;
  }

 private:
  // Those of a unit, made ready.
  struct Queries {
    std::vector<int32_t> words;
    std::vector<float> factors;
    std::vector<int> first, end;
    QueriesView view;

    Queries(Attention& all, const Unit& unit)
        : words(static_cast<size_t>(unit.to - unit.from) * static_cast<size_t>(all.a_.pages.query_size())),
          factors(static_cast<size_t>(unit.to - unit.from)), first(factors.size()), end(factors.size()) {
      const PagedView& a = all.a_;
      for (int i = unit.from; i < unit.to; ++i) {
        const size_t q = static_cast<size_t>(i - unit.from);
        if (!all.ops_.prepare_query(a.pages, a.q + all.head_of(unit, i) * a.pages.key_dim, a.scale,
                                    words.data() + q * static_cast<size_t>(a.pages.query_size()), &factors[q]))
          all.finite_ = false;
        end[q] = a.seen[all.row_of(unit, i)];
        first[q] = all.first_of(end[q]);
      }
      view = {words.data(), factors.data(), first.data(), end.data(), unit.to - unit.from, a.softcap};
    }
    bool sees(int q, int page) const { return view.first[q] < (page + 1) * kPage && view.end[q] > page * kPage; }
  };

  int stream(int i) const { return a_.streams[order_[static_cast<size_t>(i)]]; }
  int first_of(int end) const { return a_.window ? std::max(0, end - a_.window) : 0; }
  int row_of(const Unit& unit, int query) const { return order_[static_cast<size_t>(unit.row + query / group_)]; }
  // Which of all rows' heads, in the order of q and out.
  int64_t head_of(const Unit& unit, int query) const {
    return int64_t{row_of(unit, query)} * a_.heads + unit.kv_head * group_ + query % group_;
  }
  int64_t at(int query) const { return int64_t{query} * a_.pages.state_size(); }
  int64_t state_of(const Unit& unit, int page) const { return unit.states + at(page * (unit.to - unit.from)); }

  void add_unit(int row, int from, int to, int head) {
    Unit unit{row, from, to, head, a_.most_pages, 0, 0};
    for (int i = from / group_; i <= (to - 1) / group_; ++i) {
      const int end = a_.seen[order_[static_cast<size_t>(row + i)]], first = first_of(end);
      unit.first_page = std::min(unit.first_page, first / kPage);
      unit.last_page = std::max(unit.last_page, (end + kPage - 1) / kPage);
    }
    const int pages = unit.last_page - unit.first_page;
    most_pages_ = std::max(most_pages_, pages);
    work_ += int64_t{pages} * (to - from + 2) * (a_.pages.key_dim + a_.pages.value_dim) * (kPage / 2);
    units_.push_back(unit);
  }

  // States of the queries that see a page; they come in runs.
  void visit(const Unit& unit, const Queries& queries, int page, float* states) const {
    const int32_t* table = a_.tables + int64_t{stream(unit.row)} * a_.most_pages;
    int next = page + 1 < unit.last_page ? table[page + 1] : -1;
    for (int from = 0, to; from < queries.view.count; from = to) {
      for (to = from; to < queries.view.count && queries.sees(to, page);) ++to;
      if (to == from) {
        ++to;
        continue;
      }
      ops_.page_part(a_.pages, queries.view, from, to, page, table[page], next, unit.kv_head, states + at(from));
      next = -1;
    }
  }

  std::vector<float> fresh(const Unit& unit) const {
    std::vector<float> state(static_cast<size_t>(at(unit.to - unit.from)));
    for (int i = unit.from; i < unit.to; ++i) {
      const float* sink = sink_of(unit, i);
      state[static_cast<size_t>(at(i - unit.from)) + kBest] = sink ? *sink : -std::numeric_limits<float>::infinity();
    }
    return state;
  }
  const float* sink_of(const Unit& unit, int query) const {
    return a_.sinks ? a_.sinks + unit.kv_head * group_ + query % group_ : nullptr;
  }
  void finish(const Unit& unit, const std::vector<float>& state) const {
    for (int i = unit.from; i < unit.to; ++i)
      ops_.finish_query(a_.pages, state.data() + at(i - unit.from), sink_of(unit, i),
                        a_.out + head_of(unit, i) * a_.pages.value_dim);
  }

  void whole(const Unit& unit) {
    thread_local std::vector<float> scratch;
    const int count = unit.to - unit.from;
    float* states = reserve(scratch, static_cast<size_t>(at(count)));
    const Queries queries(*this, unit);
    std::vector<float> state = fresh(unit);
    for (int page = unit.first_page; page < unit.last_page; ++page) {
      visit(unit, queries, page, states);
      for (int q = 0; q < count; ++q)
        if (queries.sees(q, page)) ops_.join_pages(a_.pages, states + at(q), state.data() + at(q));
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
