// Feedback of the encoder: later columns of every row make good what the committed ones did wrong.

// Sums of some later columns of kTogether rows stay in registers while up to kTerms committed columns, from `first` on,
// add to them. Their feedback is packed first: rows a power of two apart would share a few cache sets.
// More rows share what is loaded where there are registers for their sums.
constexpr int kTerms = 64, kTogether = kVectorBytes == 64 ? 4 : 2, kStripVectors = 4, kStripWidth = kStripVectors * kWide;

// In a register: GCC would load it again for every row, and loads are the limit.
H2Q_INLINE void stay([[maybe_unused]] Wide& value) {
#if H2Q_AVX512
  asm("" : "+v"(value));
#endif
}

template <int kRows>
inline void correct_rows(const CorrectionJob& job, int row, int first, int terms, int col,
                         const float (*shares)[kStripWidth]) {
  const int count = least(kStripWidth, job.to - col);
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  const float* errors = job.errors + static_cast<size_t>(row) * job.width + first;
  float* later = job.corrected + static_cast<size_t>(row) * job.width + col;
  alignas(64) float part[kRows][kStripWidth] = {};
  Wide sum[kRows][kStripVectors];
  for (int r = 0; r < kRows; ++r) {
    const float* from = later + static_cast<size_t>(r) * job.width;
    if (count < kStripWidth) std::memcpy(part[r], from, bytes), from = part[r];
#pragma GCC unroll 4
    for (int v = 0; v < kStripVectors; ++v) sum[r][v] = load_vector<Wide>(from + v * kWide);
  }
  for (int i = 0; i < terms; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kStripVectors; ++v) {
      Wide share = load_vector<Wide>(shares[i] + v * kWide);
      if constexpr (kRows > 2) stay(share);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
        sum[r][v] = sum[r][v] + errors[static_cast<size_t>(r) * job.width + i] * share;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* to = later + static_cast<size_t>(r) * job.width;
    if (count < kStripWidth) {
      for (int v = 0; v < kStripVectors; ++v) store_vector(part[r] + v * kWide, sum[r][v]);
      std::memcpy(to, part[r], bytes);
    } else {
#pragma GCC unroll 4
      for (int v = 0; v < kStripVectors; ++v) store_vector(to + v * kWide, sum[r][v]);
    }
  }
}

inline void correct_strip(const CorrectionJob& job, int first, int terms, int col) {
  const size_t bytes = static_cast<size_t>(least(kStripWidth, job.to - col)) * sizeof(float);
  alignas(64) float shares[kTerms][kStripWidth];
  for (int i = 0; i < terms; ++i) {
    const float* from = job.feedback + static_cast<size_t>(first + i) * job.cols + col;
    if (bytes == sizeof shares[i]) {
      std::memcpy(shares[i], from, sizeof shares[i]);
      continue;
    }
    std::memset(shares[i], 0, sizeof shares[i]);
    std::memcpy(shares[i], from, bytes);
  }
  int row = 0;
  for (; row + kTogether <= job.rows; row += kTogether) correct_rows<kTogether>(job, row, first, terms, col, shares);
  for (; row < job.rows; ++row) correct_rows<1>(job, row, first, terms, col, shares);
}

// All strips of some committed columns before the next: their errors stay near.
void correct(const CorrectionJob& job) {
  const int last = least(job.end, job.cols);
  for (int first = job.begin; first < last; first += kTerms)
    for (int col = job.from; col < job.to; col += kStripWidth)
      correct_strip(job, first, least(kTerms, last - first), col);
}

const EncodeKernels& viterbi() {
  static constexpr EncodeKernels kernels{kVectorBytes / 2, search, correct};
  return kernels;
}
