"""llama.cpp's matrix products through the shared libraries that llama-cpp-python brings: one weight
matrix, one product, as a decoding step would run it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.core.errors import ResourceError

FLOAT32 = 0
TYPES = {  # ggml's numbers, and bits per weight with their scales
    "Q4_0": (2, 4.5),
    "Q4_1": (3, 5.0),
    "Q4_K": (12, 4.5),
    "IQ4_NL": (20, 4.5),
    "IQ4_XS": (23, 4.25),
    "MXFP4": (39, 4.25),
    "Q2_K": (10, 2.625),
    "Q8_0": (8, 8.5),
}
FOUR_BITS = ("Q4_0", "Q4_1", "Q4_K", "IQ4_NL", "IQ4_XS", "MXFP4")
PATTERN_ROWS = (
    1024  # rows quantized; they are repeated down the matrix, speed does not depend on them
)
CONTEXT_BYTES = 1 << 20

_P, _S, _I, _L = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int64
SIGNATURES: dict[str, tuple[Any, ...]] = {  # result, arguments
    "ggml_log_set": (None, _P, _P),
    "ggml_free": (None, _P),
    "ggml_new_tensor_2d": (_P, _P, _I, _L, _L),
    "ggml_mul_mat": (_P, _P, _P, _P),
    "ggml_new_graph": (_P, _P),
    "ggml_build_forward_expand": (None, _P, _P),
    "ggml_nbytes": (_S, _P),
    "ggml_quantize_chunk": (_S, _I, _P, _P, _L, _L, _L, _P),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_P, _P, _P),
    "ggml_backend_buffer_free": (None, _P),
    "ggml_backend_tensor_set": (None, _P, _P, _S, _S),
    "ggml_backend_tensor_get": (None, _P, _P, _S, _S),
    "ggml_backend_cpu_init": (_P,),
    "ggml_backend_cpu_reg": (_P,),
    "ggml_backend_cpu_buffer_type": (_P,),
    "ggml_backend_cpu_set_n_threads": (None, _P, _I),
    "ggml_backend_free": (None, _P),
    "ggml_backend_graph_compute": (_I, _P, _P),
    "ggml_backend_reg_dev_get": (_P, _P, _S),
    "ggml_backend_reg_get_proc_address": (_P, _P, ctypes.c_char_p),
    "ggml_backend_dev_supports_op": (ctypes.c_bool, _P, _P),
    "ggml_backend_buft_name": (ctypes.c_char_p, _P),
}


_Listener = ctypes.CFUNCTYPE(None, _I, ctypes.c_char_p, _P)


class _InitParameters(ctypes.Structure):
    _fields_ = (("mem_size", _S), ("mem_buffer", _P), ("no_alloc", ctypes.c_bool))


class Ggml:
    """The functions of the library that a product needs. Raises ResourceError where the package is
    missing or its library lacks one of them.
    """

    def __init__(self) -> None:
        spec = find_spec("llama_cpp")
        if spec is None or not spec.submodule_search_locations:
            raise ResourceError("llama-cpp-python is not installed.", fix="make bench-peers")
        folder = Path(next(iter(spec.submodule_search_locations))) / "lib"
        named = (f for f in folder.iterdir() if f.name.startswith(("libggml", "ggml")))
        files = [f for f in named if f.suffix in (".so", ".dylib", ".dll")]  # no second copies
        ordered = sorted(files, key=lambda f: ("base" not in f.name, "cpu" not in f.name))
        self._libraries = [ctypes.CDLL(str(f), ctypes.RTLD_GLOBAL) for f in ordered]
        self.version = version("llama-cpp-python")
        self.init = self._function("ggml_init", (_P, _InitParameters))
        self._functions = {n: self._function(n, s) for n, s in SIGNATURES.items()}
        self._quiet = _Listener(lambda level, words, data: None)  # kept alive for the library
        self.log_set(self._quiet, None)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._functions[f"ggml_{name}"]

    def context(self) -> int:
        """A context for descriptions of tensors; their memory is allocated elsewhere."""
        return int(self.init(_InitParameters(CONTEXT_BYTES, None, True)))

    def buffer_types(self) -> dict[str, int]:
        """Kinds of memory for weights: the plain one, and those in which the library lays weights
        out anew to be faster.
        """
        device = self.device()
        get = self.backend_reg_get_proc_address(
            self.backend_cpu_reg(), b"ggml_backend_dev_get_extra_bufts"
        )
        found = [self.backend_cpu_buffer_type()]
        if get:
            extra = ctypes.CFUNCTYPE(ctypes.POINTER(_P), _P)(get)(device)
            index = 0
            while extra and extra[index]:
                found.append(extra[index])
                index += 1
        return {self.backend_buft_name(kind).decode(): kind for kind in found}

    def device(self) -> int:
        """The processor as the library's device."""
        return int(self.backend_reg_dev_get(self.backend_cpu_reg(), 0))

    def _function(self, name: str, signature: tuple[Any, ...]) -> Callable[..., Any]:
        for library in self._libraries:
            if hasattr(library, name):
                function = getattr(library, name)
                function.restype, *function.argtypes = signature
                return function
        raise ResourceError(
            f"The library of llama-cpp-python has no {name}.",
            fix="Install the version that requirements/bench-peers.txt names.",
        )


@dataclass(frozen=True)
class Product:
    """Weights of one type in one kind of memory, times inputs; `run` computes it."""

    name: str
    kind: str
    rows: int
    cols: int
    bytes: int
    run: Callable[[], None]
    use_threads: Callable[[int], None]
    result: Callable[[], npt.NDArray[np.float32]]
    free: Callable[[], None]


def products(
    ggml: Ggml, name: str, pattern: npt.NDArray[np.float32], rows: int, x: npt.NDArray[np.float32]
) -> Iterator[Product]:
    """The product in every kind of memory the library would use for it, one after the other. The
    weights are `pattern`, float32 (PATTERN_ROWS, cols), repeated; x is float32 (tokens, cols).
    """
    codes = _quantized(ggml, TYPES[name][0], pattern)
    for kind, memory in ggml.buffer_types().items():
        made = _product(ggml, name, kind, memory, codes, rows, x)
        if made is not None:
            yield made
            made.free()


def _quantized(ggml: Ggml, number: int, pattern: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    rows, cols = pattern.shape
    out = np.empty(pattern.nbytes, np.uint8)
    size = ggml.quantize_chunk(number, pattern.ctypes.data, out.ctypes.data, 0, rows, cols, None)
    return out[:size]


def _product(
    ggml: Ggml,
    name: str,
    kind: str,
    memory: int,
    codes: npt.NDArray[np.uint8],
    rows: int,
    x: npt.NDArray[np.float32],
) -> Product | None:
    """None where the library does not take this type in this kind of memory."""
    tokens, cols = x.shape
    holder, worker = ggml.context(), ggml.context()
    weights = ggml.new_tensor_2d(holder, TYPES[name][0], cols, rows)
    room = ggml.backend_alloc_ctx_tensors_from_buft(holder, memory)
    inputs = ggml.new_tensor_2d(worker, FLOAT32, cols, tokens)
    output = ggml.mul_mat(worker, weights, inputs)
    if not ggml.backend_dev_supports_op(ggml.device(), output):
        ggml.backend_buffer_free(room)
        ggml.free(worker)
        ggml.free(holder)
        return None
    graph = ggml.new_graph(worker)
    ggml.build_forward_expand(graph, output)
    around = ggml.backend_alloc_ctx_tensors_from_buft(worker, ggml.backend_cpu_buffer_type())
    size = ggml.nbytes(weights)
    whole = np.resize(codes, size)
    ggml.backend_tensor_set(weights, whole.ctypes.data, 0, size)
    ggml.backend_tensor_set(inputs, x.ctypes.data, 0, x.nbytes)
    backend = ggml.backend_cpu_init()

    def run() -> None:
        if ggml.backend_graph_compute(backend, graph) != 0:
            raise ResourceError("The library did not compute its product.", where=name)

    def result() -> npt.NDArray[np.float32]:
        out = np.empty((tokens, rows), np.float32)
        ggml.backend_tensor_get(output, out.ctypes.data, 0, out.nbytes)
        return out

    def free() -> None:
        ggml.backend_free(backend)
        for buffer in (room, around):
            ggml.backend_buffer_free(buffer)
        for context in (worker, holder):
            ggml.free(context)

    return Product(
        name, kind, rows, cols, size, run,
        lambda threads: ggml.backend_cpu_set_n_threads(backend, threads), result, free,
    )  # fmt: skip
