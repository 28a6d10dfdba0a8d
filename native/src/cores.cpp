#include "cores.hpp"

#include <algorithm>
#include <thread>

#if defined(__APPLE__)
#include <pthread.h>
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <sched.h>

#include <fstream>
#include <string>
#include <vector>
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
#elif defined(__linux__)
// What the kernel's scheduler thinks a core is worth, the best one 1024; 0 where it tells nothing.
int capacity(int core) {
  int value = 0;
  std::ifstream("/sys/devices/system/cpu/cpu" + std::to_string(core) + "/cpu_capacity") >> value;
  return value;
}
#endif

}  // namespace

Cores usable_cores() {
#if defined(__APPLE__)
  if (const int fast = system_value("hw.perflevel0.physicalcpu"); fast > 0)
    return {fast, system_value("hw.perflevel1.physicalcpu")};
#elif defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    std::vector<int> capacities;
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &allowed)) capacities.push_back(capacity(core));
    const int best = capacities.empty() ? 0 : *std::max_element(capacities.begin(), capacities.end());
    Cores cores{0, 0};
    for (int each : capacities) ++(2 * each >= best ? cores.performance : cores.efficiency);
    if (cores.performance > 0) return cores;
  }
#endif
  return {std::max(1, static_cast<int>(std::thread::hardware_concurrency())), 0};
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

bool has_int8_matrices() {
#if defined(__aarch64__) && defined(__APPLE__)
  return system_value("hw.optional.arm.FEAT_I8MM") != 0;
#elif defined(__aarch64__) && defined(__linux__) && defined(HWCAP2_I8MM)
  return (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
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
