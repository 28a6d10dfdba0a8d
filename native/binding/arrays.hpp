// Arrays as they come from Python.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace nb = nanobind;

template <typename T, int kDims>
using Array = nb::ndarray<T, nb::ndim<kDims>, nb::c_contig, nb::device::cpu>;
template <typename T, int kDims>
using In = Array<const T, kDims>;

// NumPy arrays may begin at any address; kernels want elements at multiples of their size. Copies what is not there.
class Borders {
 public:
  template <typename T, typename... Form>
  T* operator()(const nb::ndarray<T, Form...>& array) {
    if (reinterpret_cast<uintptr_t>(array.data()) % alignof(T) == 0) return array.data();
    copies_.emplace_back(new unsigned char[array.nbytes()]);
    std::memcpy(copies_.back().get(), array.data(), array.nbytes());
    return reinterpret_cast<T*>(copies_.back().get());
  }

 private:
  std::vector<std::unique_ptr<unsigned char[]>> copies_;
};
