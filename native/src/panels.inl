// Rows of one panel: decode a stretch of the plane to bytes, then multiply it with many tokens; the sums are exact.
// Each path brings decode_lines (codes to biased levels), dot (levels times tokens) and, where it pays, a fused form.

constexpr int kChunkBytes = 32 * 1024;  // biased levels of one stretch; stays in the first or second cache

void panel(const PlaneView* planes, int count, const ActivationView& x, int index, int first, int last, float* out) {
  thread_local Scratch<uint8_t> level_scratch;
  thread_local Scratch<int32_t> sum_scratch;
  const int rows = planes[0].rows, tokens = last - first;
  for (int p = 0; p < count; ++p) {
    const PlaneView& plane = planes[p];
    const int height = plane.panel_rows();
    const size_t cells = static_cast<size_t>(tokens) * static_cast<size_t>(height);
    int32_t* all = sum_scratch.reserve(cells);
    std::memset(all, 0, cells * sizeof(int32_t));
    if (!(tokens == 1 && fused(plane, plane.panel(index), x.codes + static_cast<int64_t>(first) * x.stride,
                               all))) {
      // A stretch is whole lines and whole groups of columns.
      const int unit_groups = most(1, plane.symbols / plane.steps);
      const int unit_bytes = unit_groups * plane.steps * kLineLanes;
      const int stretch = most(1, kChunkBytes / unit_bytes) * unit_groups;
      uint8_t* levels = level_scratch.reserve(static_cast<size_t>(stretch / unit_groups) * static_cast<size_t>(unit_bytes));
      for (int g = 0; g < plane.groups(); g += stretch) {
        const int groups = least(stretch, plane.groups() - g);
        const int line = g * plane.steps / plane.symbols, lines = groups * plane.steps / plane.symbols;
        decode_lines(*plane.tables, plane.panel(index), line, lines, levels);
        dot(levels, groups, plane.steps, x.codes + static_cast<int64_t>(first) * x.stride + 4 * g,
            x.stride, tokens, all);
      }
    }
    const int begin = index * height, rows_here = least(height, rows - begin);
    for (int t = 0; t < tokens; ++t) {
      const int32_t bias = kLevelOffset * x.sums[first + t];
      const int32_t* sums = all + static_cast<int64_t>(t) * height;
      float* row = out + static_cast<int64_t>(first + t) * rows + begin;
      const float scale = x.scale[first + t];
      for (int r = 0; r < rows_here; ++r) {
        const float part = static_cast<float>(sums[r] - bias) * widen(plane.scales[begin + r]);
        const float total = p == 0 ? part : row[r] + part;
        row[r] = p + 1 == count ? total * scale : total;
      }
    }
  }
}
