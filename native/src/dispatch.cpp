#include "dispatch.hpp"

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <mutex>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "cores.hpp"

namespace h2q {

namespace {

// One instruction of each group; the results go to `sink` so that none is optimised away.
[[maybe_unused]] volatile int sink;

#if defined(__x86_64__)
__attribute__((target("avx2"))) void try_avx2() {
  __m256i v = _mm256_set1_epi8(static_cast<char>(sink));
  sink = _mm256_movemask_epi8(_mm256_shuffle_epi8(v, _mm256_add_epi8(v, v)));
}
__attribute__((target("avx2,avxvnni"))) void try_avxvnni() {
  __m256i v = _mm256_set1_epi32(sink);
  sink = _mm256_movemask_epi8(_mm256_dpbusd_avx_epi32(v, v, v));
}
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) void try_avx512() {
  __m512i v = _mm512_set1_epi16(static_cast<short>(sink));
  v = _mm512_adds_epi16(v, _mm512_xor_si512(v, v));
  sink = static_cast<int>(_mm512_cmplt_epi16_mask(v, _mm512_setzero_si512()));
}
__attribute__((target("avx512f,avx512bw,avx512vbmi"))) void try_vbmi() {
  __m512i v = _mm512_set1_epi8(static_cast<char>(sink));
  sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_permutexvar_epi8(v, v)));
}
__attribute__((target("avx512f,avx512vnni"))) void try_vnni() {
  __m512i v = _mm512_set1_epi32(sink);
  sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_dpbusd_epi32(v, v, v)));
}
__attribute__((target("avx512f,avx512bw,gfni"))) void try_gfni() {
  __m512i v = _mm512_set1_epi64(sink);
  sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_gf2p8affine_epi64_epi8(v, v, 0)));
}

// Tiles belong to who asked the kernel for the room they need at a change of threads.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kAskForState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
#else
  return false;
#endif
}

// In words of its own: compilers that know these instructions want a target for them.
void try_amx() {
  alignas(64) unsigned char form[64] = {1};
  for (int tile = 0; tile < 3; ++tile) form[16 + 2 * tile] = 4, form[48 + tile] = 1;
  asm volatile(
      "ldtilecfg (%0)\n\ttilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\t"
      "tdpbsud %%tmm2, %%tmm1, %%tmm0\n\ttilerelease"
      :
      : "r"(form)
      : "memory");
}

bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 1) && (d >> 25 & 1) && may_use_tiles();
}

std::vector<Feature> probe() {
  __builtin_cpu_init();
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  std::vector<Feature> out;
  auto add = [&](const char* name, bool found, void (*trial)()) {
    out.push_back({name, found, found && executes(trial)});
  };
  add("avx2", __builtin_cpu_supports("avx2"), try_avx2);
  add("avx_vnni", __builtin_cpu_supports("avxvnni"), try_avxvnni);
  add("avx512", wide, try_avx512);
  add("avx512_vbmi", wide && __builtin_cpu_supports("avx512vbmi"), try_vbmi);
  add("avx512_vnni", wide && __builtin_cpu_supports("avx512vnni"), try_vnni);
  add("gfni", wide && __builtin_cpu_supports("gfni"), try_gfni);
  add("amx", wide && has_amx(), try_amx);
  return out;
}
#elif defined(__aarch64__)
#if defined(__clang__)
__attribute__((target("dotprod")))
#else
__attribute__((target("arch=armv8.2-a+dotprod")))
#endif
void try_dot_product() {
  const int8x16_t v = vdupq_n_s8(static_cast<int8_t>(sink));
  sink = vgetq_lane_s32(vdotq_s32(vdupq_n_s32(0), v, v), 0);
}

#if defined(__clang__)
__attribute__((target("i8mm")))
#else
__attribute__((target("arch=armv8.2-a+i8mm")))
#endif
void try_int8_matrices() {
  const int8x16_t v = vdupq_n_s8(static_cast<int8_t>(sink));
  sink = vgetq_lane_s32(vmmlaq_s32(vdupq_n_s32(0), v, v), 0);
}

std::vector<Feature> probe() {
  const bool dots = has_dot_product(), matrices = has_int8_matrices();
  return {{"dotprod", dots, dots && executes(try_dot_product)},
          {"i8mm", matrices, matrices && executes(try_int8_matrices)}};
}
#else
std::vector<Feature> probe() { return {}; }
#endif

std::vector<const Ops*> find_paths() {
  std::vector<const Ops*> out;
  [[maybe_unused]] const auto has = [](auto... names) {
    const auto executed = [](const std::string& name) {
      for (const Feature& feature : features())
        if (feature.name == name) return feature.executed;
      return false;
    };
    return (executed(names) && ...);
  };
#if defined(__x86_64__)
  if (has("avx512", "avx512_vbmi", "avx512_vnni", "gfni")) {
    if (has("amx")) out.push_back(&ops_amx());
    out.push_back(&ops_avx512());
  }
  if (has("avx512", "avx512_vnni")) out.push_back(&ops_avx512vnni());
  if (has("avx512")) out.push_back(&ops_avx512bw());
  if (has("avx2", "avx_vnni")) out.push_back(&ops_avxvnni());
  if (has("avx2")) out.push_back(&ops_avx2());
#elif defined(__aarch64__)
  if (has("dotprod", "i8mm")) out.push_back(&ops_neon_i8mm());
  if (has("dotprod")) out.push_back(&ops_neon());
#endif
  out.push_back(&ops_portable());
  return out;
}

std::atomic<const Ops*> chosen{nullptr};

// Where the thread that tries an instruction goes on when there is none such; null on every other thread.
thread_local sigjmp_buf* way_out = nullptr;
struct sigaction handler_before;

void leave_trial(int) {
  if (way_out) siglongjmp(*way_out, 1);
  sigaction(SIGILL, &handler_before, nullptr);  // another thread's instruction, and it comes again: not ours to hide
}

}  // namespace

bool executes(void (*trial)()) {
  static std::mutex one_at_a_time;  // the handler belongs to the process
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  struct sigaction guard {};
  guard.sa_handler = leave_trial;
  sigemptyset(&guard.sa_mask);
  sigjmp_buf here;
  way_out = &here;
  volatile bool good = false;
  sigaction(SIGILL, &guard, &handler_before);
  if (sigsetjmp(here, 1) == 0) {
    trial();
    good = true;
  }
  sigaction(SIGILL, &handler_before, nullptr);
  way_out = nullptr;
  return good;
}

const std::vector<Feature>& features() {
  static const std::vector<Feature> found = probe();
  return found;
}

const std::vector<const Ops*>& usable_paths() {
  static const std::vector<const Ops*> found = find_paths();
  return found;
}

const Ops& active() {
  if (!chosen.load()) chosen.store(usable_paths().front());
  return *chosen.load();
}

void use(const Ops& ops) { chosen.store(&ops); }

void use(const std::string& name) {
  for (const Ops* ops : usable_paths())
    if (name == ops->name) return use(*ops);
  throw std::invalid_argument("the kernel path " + name + " cannot run here");
}

}  // namespace h2q
