# macOS on ARM, with the C++ compiler of the `ziglang` package: -D H2Q_PYTHON=... names the Python that has it.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_CXX_COMPILER ${H2Q_PYTHON} -m ziglang c++ -target aarch64-macos.13.0)
# Nothing that was built can be run here; what macOS has is known.
set(CMAKE_CXX_COMPILER_WORKS TRUE)
set(CMAKE_CXX_ABI_COMPILED TRUE)
set(CMAKE_SIZEOF_VOID_P 8)
set(CMAKE_HAVE_LIBC_PTHREAD TRUE)
set(CMAKE_OSX_SYSROOT "")
set(CMAKE_CXX_ARCHIVE_CREATE "${H2Q_PYTHON} -m ziglang ar qc <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "")
