#include "dispatch.hpp"

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <stdexcept>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace h2q {
namespace {

#if defined(__x86_64__)
sigjmp_buf trial_exit;
void leave_trial(int) { siglongjmp(trial_exit, 1); }

volatile int sink;

// One instruction of each group; the results go to `sink` so that none is optimised away.
__attribute__((target("avx2"))) void try_avx2() {
  __m256i v = _mm256_set1_epi8(static_cast<char>(sink));
  sink = _mm256_movemask_epi8(_mm256_shuffle_epi8(v, _mm256_add_epi8(v, v)));
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

bool runs(void (*trial)()) {
  struct sigaction guard {}, before {};
  guard.sa_handler = leave_trial;
  sigemptyset(&guard.sa_mask);
  sigaction(SIGILL, &guard, &before);
  volatile bool good = false;
  if (sigsetjmp(trial_exit, 1) == 0) {
    trial();
    good = true;
  }
  sigaction(SIGILL, &before, nullptr);
  return good;
}

std::vector<Feature> probe() {
  __builtin_cpu_init();
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  std::vector<Feature> out;
  auto add = [&](const char* name, bool found, void (*trial)()) { out.push_back({name, found, found && runs(trial)}); };
  add("avx2", __builtin_cpu_supports("avx2"), try_avx2);
  add("avx512", wide, try_avx512);
  add("avx512_vbmi", wide && __builtin_cpu_supports("avx512vbmi"), try_vbmi);
  add("avx512_vnni", wide && __builtin_cpu_supports("avx512vnni"), try_vnni);
  add("gfni", wide && __builtin_cpu_supports("gfni"), try_gfni);
  return out;
}
#else
std::vector<Feature> probe() { return {}; }
#endif

std::vector<const Ops*> find_paths() {
  std::vector<const Ops*> out;
#if defined(__x86_64__)
  bool all = true;
  for (const Feature& feature : features()) all = all && feature.executed;
  if (all) out.push_back(&ops_avx512());
  if (features()[0].executed) out.push_back(&ops_avx2());
#endif
  out.push_back(&ops_portable());
  return out;
}

std::atomic<const Ops*> chosen{nullptr};

}  // namespace

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

void use(const std::string& name) {
  for (const Ops* ops : usable_paths())
    if (name == ops->name) {
      chosen.store(ops);
      return;
    }
  throw std::invalid_argument("the kernel path " + name + " cannot run here");
}

}  // namespace h2q
