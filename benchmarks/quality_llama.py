"""llama.cpp on the other side of the frontier: its importance matrix, its quantizer, its engine, by
llama-cpp-python.
"""

from __future__ import annotations

import ctypes
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader

from h2q import kernels
from h2q.core.architecture import tensors
from h2q.core.errors import ResourceError
from h2q.core.specs import ModelSpec
from h2q.engine import Model
from h2q.sources.gguf_names import gguf_name

FloatArray = npt.NDArray[np.float32]
TokenArray = npt.NDArray[np.int64]
LEAST_VERSION = (0, 3, 36)  # since when the importance matrix is plain C
WORDS = "tokenizer."


@dataclass(frozen=True)
class FileType:
    """A kind of file the quantizer makes: llama.cpp's number, bits per weight of its main type, and
    whether an importance matrix changes it.
    """

    name: str
    number: int
    bits: float
    shaped: bool = True


FILE_TYPES = (
    FileType("Q2_K", 10, 2.625),
    FileType("Q3_K_S", 11, 3.4375),
    FileType("Q3_K_M", 12, 3.4375),
    FileType("Q4_K_M", 15, 4.5),
    FileType("Q5_K_M", 17, 5.5),
    FileType("Q6_K", 18, 6.5625),
    FileType("Q8_0", 7, 8.5, shaped=False),
    FileType("F16", 1, 16.0, shaped=False),
)
# What its users take where few bits are left; only made with an importance matrix.
SMALL_TYPES = (
    FileType("IQ1_S", 24, 1.5625),
    FileType("IQ2_XXS", 19, 2.0625),
    FileType("IQ2_XS", 20, 2.3125),
    FileType("IQ2_M", 29, 2.5625),
    FileType("IQ3_XXS", 23, 3.0625),
    FileType("IQ3_M", 27, 3.4375),
    FileType("IQ4_XS", 30, 4.25),
)


@dataclass(frozen=True)
class Sizes:
    """Bytes of a GGUF file: all of it, without the keys of its tokenizer, and of tensors alone."""

    file: int
    without_words: int
    tensors: int


def library() -> Any:
    """The package, quiet. Raises ResourceError where it is missing or too old."""
    fix = "make bench-quality installs it (requirements/bench-quality.txt)."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package's own
            import llama_cpp
    except ImportError as error:
        raise ResourceError("llama-cpp-python is not installed.", fix=fix) from error
    if tuple(map(int, llama_cpp.__version__.split(".")[:3])) < LEAST_VERSION:
        raise ResourceError(f"llama-cpp-python {llama_cpp.__version__} is too old.", fix=fix)
    return llama_cpp


def package_version() -> str:
    """Of llama-cpp-python, which carries its llama.cpp."""
    return version("llama-cpp-python")


class Importance:
    """Mean squared input of every column of every matrix, as llama.cpp's importance matrix has it;
    float32 by GGUF name. Hang it on a model's `observer`.
    """

    def __init__(self) -> None:
        self._sums: dict[str, npt.NDArray[np.float64]] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, reads: str, x: FloatArray) -> None:
        squares = np.einsum("ij,ij->j", x, x, dtype=np.float64)
        self._sums[reads] = self._sums.get(reads, 0.0) + squares
        self._counts[reads] = self._counts.get(reads, 0) + len(x)

    def columns(self, spec: ModelSpec) -> dict[str, FloatArray]:
        """One value per column. A tied embedding is weighed as the head it also is."""
        return {
            gguf_name(tensor.name): (self._sums[tensor.reads] / self._counts[tensor.reads]).astype(
                np.float32
            )
            for tensor in tensors(spec)
            if tensor.reads in self._sums
        }


def importance(model: Model, texts: TokenArray) -> dict[str, FloatArray]:
    """The importance matrix of a model over int64 (rows, length) tokens."""
    observer = Importance()
    model.observer = observer
    try:
        for row in texts:
            model.forward(row[None], model.new_cache(1, len(row)))
    finally:
        model.observer = None
    return observer.columns(model.spec)


def quantize(
    source: Path, target: Path, kind: FileType, columns: dict[str, FloatArray] | None = None
) -> None:
    """llama_model_quantize with its defaults; `columns` is the importance matrix. Raises
    ResourceError when it fails.
    """
    llama = library()
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = kind.number, kernels.threads()
    kept = []  # until the call is over
    if columns:
        entry = llama.llama_cpp.llama_model_imatrix_data
        pointer = ctypes.POINTER(ctypes.c_float)
        for name, values in columns.items():
            kept.append(entry(name.encode(), values.ctypes.data_as(pointer), len(values)))
        table = (entry * (len(kept) + 1))(*kept, entry(None, None, 0))
        parameters.imatrix = ctypes.cast(table, ctypes.POINTER(entry))
    failed = llama.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    if failed:
        raise ResourceError("llama.cpp did not quantize the model.", where=kind.name)


def sizes(path: Path) -> Sizes:
    """Of a file, by the package's reader."""
    reader = GGUFReader(path)
    words = sum(
        int(part.nbytes)
        for name, field in reader.fields.items()
        if name.startswith(WORDS)
        for part in field.parts
    )
    whole = path.stat().st_size
    return Sizes(whole, whole - words, sum(int(t.n_bytes) for t in reader.tensors))


class Peer:
    """A GGUF file in llama.cpp's engine, in the form of our Model as far as measuring needs it.

    As the package runs it by default: KV cache in F16, inputs of quantized products rounded to Q8_K
    or Q8_0, of F16 ones to F16.
    """

    def __init__(self, path: Path, spec: ModelSpec, length: int) -> None:
        self.spec, self._length = spec, length
        self._model = library().Llama(
            str(path),
            n_ctx=length,
            n_batch=length,
            n_threads=kernels.threads(),
            n_threads_batch=kernels.threads(),
            logits_all=True,
            verbose=False,
        )

    def new_cache(self, batch: int = 1, capacity: int = 0) -> None:
        """The library keeps its own."""

    def forward(self, tokens: TokenArray, cache: None, last: bool = False) -> FloatArray:
        """Logits after each position: int64 (B, T) to float32 (B, T, vocab_size)."""
        rows = []
        for row in tokens:
            self._model.reset()
            self._model.eval(row.tolist())
            rows.append(np.array(self._model.scores[: len(row)], np.float32))
        return np.stack(rows)

    def close(self) -> None:
        """Give its memory back."""
        self._model.close()


def silence() -> None:
    """No lines of the library's on stderr."""
    _silent.append(library().llama_log_callback(lambda level, words, data: None))
    library().llama_log_set(_silent[-1], ctypes.c_void_p(0))


_silent: list[Any] = []  # the library holds only their addresses
