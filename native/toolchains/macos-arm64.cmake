# macOS on ARM, with the C++ compiler of the `ziglang` package: -D H2Q_PYTHON=... names the Python that has it.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_CXX_COMPILER ${H2Q_PYTHON} -m ziglang c++ -target aarch64-macos.13.0)
set(CMAKE_CXX_COMPILER_WORKS TRUE)
set(CMAKE_CXX_ABI_COMPILED TRUE)
set(CMAKE_OSX_SYSROOT "")
set(CMAKE_CXX_ARCHIVE_CREATE "${H2Q_PYTHON} -m ziglang ar qc <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "")
