# ARM under Linux, with Debian's g++-aarch64-linux-gnu; tests run under QEMU's user mode (qemu-user), each on several
# processors: what they have decides which path must be the best one there.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
set(H2Q_EMULATED cortex-a72:portable neoverse-n1:neon max:neon_i8mm)
