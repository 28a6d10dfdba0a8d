// Feedback of the encoder: later columns of every row make good what the committed ones did wrong.

// Sums of some later columns stay in registers while up to kTerms committed columns, from `first` on, add to them.
// Their feedback is packed first: rows a power of two apart would share a few cache sets.
constexpr int kTerms = 16, kStripVectors = 4, kStripWidth = kStripVectors * kWide;

inline void correct_strip(const CorrectionJob& job, int first, int terms, int col) {
  const int count = least(kStripWidth, job.to - col);
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  alignas(64) float shares[kTerms][kStripWidth] = {}, part[kStripWidth] = {};
  for (int i = 0; i < terms; ++i)
    std::memcpy(shares[i], job.feedback + static_cast<size_t>(first + i) * job.cols + col, bytes);
  for (int row = 0; row < job.rows; ++row) {
    float* later = job.corrected + static_cast<size_t>(row) * job.width + col;
    const float* errors = job.errors + static_cast<size_t>(row) * job.width + first;
    float* work = count < kStripWidth ? part : later;
    if (work == part) std::memcpy(part, later, bytes);
    Wide sum[kStripVectors];
    for (int v = 0; v < kStripVectors; ++v) sum[v] = load_vector<Wide>(work + v * kWide);
    for (int i = 0; i < terms; ++i)
      for (int v = 0; v < kStripVectors; ++v)
        sum[v] = sum[v] + errors[i] * load_vector<Wide>(shares[i] + v * kWide);
    for (int v = 0; v < kStripVectors; ++v) store_vector(work + v * kWide, sum[v]);
    if (work == part) std::memcpy(later, part, bytes);
  }
}

void correct(const CorrectionJob& job) {
  const int last = least(job.end, job.cols);
  for (int col = job.from; col < job.to; col += kStripWidth)
    for (int first = job.begin; first < last; first += kTerms)
      correct_strip(job, first, least(kTerms, last - first), col);
}

const EncodeKernels& viterbi() {
  static constexpr EncodeKernels kernels{kVectorBytes / 2, search, correct};
  return kernels;
}
