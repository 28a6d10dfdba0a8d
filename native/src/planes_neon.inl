// NEON with dot products: a quarter of a line is one register; levels stay signed.

constexpr int kWidth = 16;
constexpr int kBudget = 16;
constexpr int kBias = 0;
typedef uint8x16_t Bytes;
typedef int32x4_t Sums;
typedef int8x16_t Four;

H2Q_INLINE const uint8_t* level_table(const CodeTables& t) { return reinterpret_cast<const uint8_t*>(t.levels); }
H2Q_INLINE Bytes load(const uint8_t* p) { return vld1q_u8(p); }
H2Q_INLINE Bytes table(const uint8_t* p) { return vld1q_u8(p); }
H2Q_INLINE Bytes look_up(Bytes entries, Bytes index) { return vqtbl1q_u8(entries, index); }
H2Q_INLINE Bytes low(Bytes v) { return vandq_u8(v, vdupq_n_u8(15)); }
H2Q_INLINE Bytes high(Bytes v) { return vshrq_n_u8(v, 4); }
H2Q_INLINE Bytes flip(Bytes v) { return veorq_u8(v, vdupq_n_u8(128)); }
H2Q_INLINE Bytes either(Bytes a, Bytes b) { return vorrq_u8(a, b); }
H2Q_INLINE Bytes differ(Bytes a, Bytes b) { return veorq_u8(a, b); }

H2Q_INLINE Sums no_sums() { return vdupq_n_s32(0); }
H2Q_INLINE void add_sums(int32_t* to, Sums v) { vst1q_s32(to, vaddq_s32(vld1q_s32(to), v)); }
H2Q_INLINE Bytes load_levels(const uint8_t* p) { return load(p); }
H2Q_INLINE void store_levels(uint8_t* p, Bytes v) { vst1q_u8(p, v); }
H2Q_INLINE Four broadcast(const int8_t* four) { return vreinterpretq_s8_s32(vdupq_n_s32(four_bytes(four))); }
H2Q_INLINE Sums dot(Sums sum, Bytes levels, Four x) { return vdotq_s32(sum, vreinterpretq_s8_u8(levels), x); }
