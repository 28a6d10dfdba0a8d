// Rows of the result: the planes' sums (plane, token, 16 R), freed of the levels' bias, scaled and added.
void finish(const PlaneView* planes, int count, int panel, const int32_t* sums, int tile_tokens,
            const ActivationView& x, int first, int last, float* out) {
  const PlaneView& shape = planes[0];
  const int height = shape.panel_rows(), begin = panel * height, rows = least(height, shape.rows - begin);
  for (int t = first; t < last; ++t) {
    float* row = out + static_cast<int64_t>(t) * shape.rows + begin;
    const int32_t bias = kBias * x.sums[t];
    for (int p = 0; p < count; ++p) {
      const int32_t* part = sums + (static_cast<int64_t>(p) * tile_tokens + t - first) * height;
      const uint16_t* scales = planes[p].scales + begin;
      if (p == 0)
        for (int r = 0; r < rows; ++r) row[r] = static_cast<float>(part[r] - bias) * widen(scales[r]);
      else
        for (int r = 0; r < rows; ++r) row[r] = row[r] + static_cast<float>(part[r] - bias) * widen(scales[r]);
    }
    for (int r = 0; r < rows; ++r) row[r] = row[r] * x.scale[t];
  }
}
