#include "cores.hpp"

#include <algorithm>
#include <thread>

#if defined(__APPLE__)
#include <pthread.h>
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sched.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#endif

namespace h2q {
namespace {

#if defined(__APPLE__)
int system_value(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? value : 0;
}
#endif

}  // namespace

int performance_cores() {
#if defined(__APPLE__)
  if (const int cores = system_value("hw.perflevel0.physicalcpu"); cores > 0) return cores;
#elif defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

bool has_dot_product() {
#if defined(__aarch64__) && defined(__APPLE__)
  return system_value("hw.optional.arm.FEAT_DotProd") != 0;
#elif defined(__aarch64__) && defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}

void prefer_performance() {
#if defined(__APPLE__)
  pthread_set_qos_class_self_np(QOS_CLASS_USER_INITIATED, 0);
#endif
}

}  // namespace h2q
