"""The native operations: the only module that imports the extension. Same names, signatures and
bits as the twins.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.constants import COLUMNS, LEVELS
from h2q.codec.layout import PanelLayout
from h2q.codec.planes import ACTIVATION_PADDING, Activations, Plane
from h2q.core import settings
from h2q.core.attention import AttentionRule
from h2q.core.errors import Cancelled, KernelError
from h2q.core.specs import PlaneSpec
from h2q.geometry.rotation import Rotation
from h2q.kernels.prepared import PlaneStack
from h2q.kernels.twins import add_rms_norm, geglu, log_softmax_top

__all__ = ["add_rms_norm", "geglu", "log_softmax_top"]  # until the extension has them

FloatArray = npt.NDArray[np.float32]
DenseArray = npt.NDArray[np.float32] | npt.NDArray[np.uint16]

NOT_FINITE = "The activations contain a value that is not a finite number."

_native: Any = None
_load_error = ""
try:
    _native = importlib.import_module("h2q.kernels._native")
except ImportError as error:  # the twins take over; `h2q doctor` shows the reason
    _load_error = str(error)


def set_code(bits: int, columns: Sequence[int], levels: npt.NDArray[np.int8]) -> None:
    """Exchange a code in the extension, for a search after better constants: 12 columns, 32 levels
    within +-63. The twins keep their own.
    """
    _native.set_code_tables(bits, np.array(columns, np.uint8), levels)


if _native:
    for _bits, _columns in COLUMNS.items():
        set_code(_bits, _columns, LEVELS[_bits])
    if (_threads := settings.threads()) is not None:
        _native.set_threads(_threads)


def load_error() -> str:
    """Why the extension could not be loaded; empty when it is there."""
    return _load_error


def paths() -> list[str]:
    """Native paths that can run here, fastest first."""
    return list(_native.paths()) if _native else []


def use(path: str) -> None:
    """Switch to a path of `paths()`."""
    _native.use(path)


def features() -> dict[str, dict[str, bool]]:
    """Instruction groups found by CPUID and executed under a guard."""
    return dict(_native.features()) if _native else {}


def set_threads(count: int) -> None:
    """Size of the worker pool, the calling thread included, 1 to 256. Raises KernelError beyond."""
    if _native:
        _call(_native.set_threads, count)


def threads() -> int:
    """Threads that take part in an operation."""
    return int(_native.threads()) if _native else 1


def cores() -> tuple[int, int]:
    """Usable cores for performance and for efficiency; the second is 0 where there is one kind."""
    return tuple(_native.cores()) if _native else (settings.usable_cores(), 0)


def read_forms() -> int:
    """See h2q.kernels.references."""
    return int(_native.read_forms())


def read_words(words: npt.NDArray[np.uint64], form: int) -> int:
    """See h2q.kernels.references."""
    return int(_call(_native.read_words, words, form))


def repeat_dots(rounds: int) -> int:
    """See h2q.kernels.references."""
    return int(_native.repeat_dots(rounds))


def synchronise(rounds: int, meet: bool) -> int:
    """See h2q.kernels.references."""
    return int(_native.synchronise(rounds, meet))


def rotate(x: FloatArray, rotation: Rotation) -> FloatArray:
    """See h2q.geometry.rotation.rotate."""
    return _rotated(x, rotation, False)


def unrotate(x: FloatArray, rotation: Rotation) -> FloatArray:
    """See h2q.geometry.rotation.unrotate."""
    return _rotated(x, rotation, True)


def quantize(x: FloatArray) -> Activations:
    """See h2q.codec.activations.quantize."""
    return _rounded(_native.quantize, np.ascontiguousarray(x, np.float32))


def rotate_quantize(x: FloatArray, rotation: Rotation) -> Activations:
    """See h2q.kernels.twins.rotate_quantize."""
    x = np.ascontiguousarray(x, np.float32)
    return _rounded(_native.rotate_quantize, x, rotation.signs, rotation.mix, rotation.block)


def matmul_planes(activations: Activations, planes: Sequence[Plane]) -> FloatArray:
    """See h2q.codec.decode.matmul_planes."""
    out = np.empty((len(activations.codes), planes[0].spec.rows), np.float32)
    stack = _stack(planes)
    _call(_native.matmul_planes, activations.codes, activations.scale, activations.sums, stack, out)
    return out


def project(
    x: FloatArray, rotation: Rotation, stacks: Sequence[PlaneStack]
) -> tuple[FloatArray, ...]:
    """See h2q.kernels.twins.project."""
    inputs = rotate_quantize(x, rotation)
    return tuple(matmul_planes(inputs, stack.planes) for stack in stacks)


def matmul_dense(x: FloatArray, weights: DenseArray) -> FloatArray:
    """See h2q.kernels.twins.matmul_dense."""
    out = np.empty((len(x), len(weights)), np.float32)
    _call(_native.matmul_dense, np.ascontiguousarray(x, np.float32), weights, out)
    return out


def gather_rows(planes: Sequence[Plane], ids: npt.NDArray[np.int64]) -> FloatArray:
    """See h2q.codec.decode.gather_rows."""
    out = np.empty((len(ids), planes[0].spec.cols), np.float32)
    _call(_native.gather_rows, _stack(planes), np.ascontiguousarray(ids, np.int64), out)
    return out


def decode_plane(spec: PlaneSpec, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """See h2q.codec.decode.decode_plane."""
    out = np.empty((spec.rows, spec.cols), np.int8)
    _call(_native.decode_plane, spec.bits, spec.rows, spec.cols, codes, out)
    return out


def encode_plane(
    target: FloatArray,
    bits: int,
    feedback: FloatArray | None = None,
    commit: int = 12,
    lookahead: int = 24,
    progress: Callable[[float], bool] | None = None,
) -> npt.NDArray[np.uint8]:
    """See h2q.codec.encode.encode_plane."""
    target = np.ascontiguousarray(target, np.float32)
    if feedback is not None:
        feedback = np.ascontiguousarray(feedback, np.float32)
    layout = PanelLayout.of(PlaneSpec(bits, *target.shape))
    codes = np.zeros(layout.code_shape, np.uint8)
    result = _call(_native.encode_plane, target, bits, feedback, commit, lookahead, codes, progress)
    if result == "not finite":
        raise KernelError("The weights or their feedback contain a value that is not finite.")
    if result == "cancelled":
        raise Cancelled("Encoding was stopped.")
    return codes


def rms_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """See h2q.kernels.twins.rms_norm."""
    out = np.empty(x.shape, np.float32)
    _call(_native.rms_norm, x, weight, eps, out)
    return out


def rope(x: FloatArray, cos: FloatArray, sin: FloatArray) -> FloatArray:
    """See h2q.kernels.twins.rope."""
    out = np.empty(x.shape, np.float32)
    _call(_native.rope, x, cos, sin, out)
    return out


def attention(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    start: int,
    rule: AttentionRule,
    sinks: FloatArray | None = None,
) -> FloatArray:
    """See h2q.kernels.twins.attention."""
    out = np.empty((*q.shape[:3], v.shape[-1]), np.float32)
    scores = (rule.scale, rule.window, rule.softcap)
    _call(_native.attention, q, k, v, start, *scores, sinks, out)
    return out


def swiglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """See h2q.kernels.twins.swiglu."""
    out = np.empty(gate.shape, np.float32)
    _call(_native.swiglu, gate, up, out)
    return out


def _rotated(x: FloatArray, rotation: Rotation, inverse: bool) -> FloatArray:
    x = np.ascontiguousarray(x, np.float32)
    out = np.empty_like(x)
    _call(_native.rotate, x, rotation.signs, rotation.mix, rotation.block, inverse, out)
    return out


def _rounded(operation: Callable[..., bool], x: FloatArray, *more: Any) -> Activations:
    tokens, width = x.shape
    padded = -(-width // ACTIVATION_PADDING) * ACTIVATION_PADDING
    codes = np.empty((tokens, padded), np.int8)
    scale, sums = np.empty(tokens, np.float32), np.empty(tokens, np.int32)
    if not _call(operation, x, *more, codes, scale, sums):
        raise KernelError(NOT_FINITE)
    return Activations(codes, scale, sums)


def _stack(planes: Sequence[Plane]) -> list[tuple[int, int, int, Any, Any]]:
    return [(p.spec.bits, p.spec.rows, p.spec.cols, p.codes, p.scales) for p in planes]


def _call(operation: Callable[..., Any], *arguments: Any) -> Any:
    """Run an operation; what the binding refuses becomes an error of our own. Errors of a callback
    pass as they are.
    """
    try:
        return operation(*arguments)
    except (ValueError, TypeError) as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise
        reason = str(error)
        if isinstance(error, TypeError):
            got = [f"{a.dtype} {a.shape}" for a in arguments if isinstance(a, np.ndarray)]
            reason = f"types, dimensions or gaps it does not know ({', '.join(got)})"
        raise KernelError(
            f"The operation got arrays it cannot work on: {reason}.", where=operation.__name__
        ) from error
