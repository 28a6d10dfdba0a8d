"""The native operations: same names, signatures and bits as the twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.layout import PanelLayout
from h2q.codec.planes import ACTIVATION_PADDING, Activations, Plane
from h2q.codec.rounded import RoundedMatrix
from h2q.core.attention import AttentionRule
from h2q.core.errors import Cancelled, KernelError
from h2q.core.specs import PlaneSpec
from h2q.geometry.rotation import Rotation
from h2q.kernels.extension import call, native
from h2q.kernels.prepared import PlaneStack

FloatArray = npt.NDArray[np.float32]
DenseArray = npt.NDArray[np.float32] | npt.NDArray[np.uint16]

NOT_FINITE = "The activations contain a value that is not a finite number."
NO_DISTRIBUTION = "The logits are not finite numbers, or forbid everything."
LOGITS = "Weights are damaged (h2q verify tells), or a constraint leaves nothing to say."
MANY_TOKENS = 1024  # of prompts; more come when a model grows
MOST_TURNS = 256  # kept prepared; a model has one rotation for each width

_turns: dict[int, tuple[Rotation, Any]] = {}  # by the object's address, which is held


def rotate(x: FloatArray, rotation: Rotation) -> FloatArray:
    """See h2q.geometry.rotation.rotate."""
    return _rotated(x, rotation, False)


def unrotate(x: FloatArray, rotation: Rotation) -> FloatArray:
    """See h2q.geometry.rotation.unrotate."""
    return _rotated(x, rotation, True)


def quantize(x: FloatArray) -> Activations:
    """See h2q.codec.activations.quantize."""
    return _rounded(native.quantize, np.ascontiguousarray(x, np.float32))


def rotate_quantize(x: FloatArray, rotation: Rotation) -> Activations:
    """See h2q.kernels.twins.rotate_quantize."""
    x = np.ascontiguousarray(x, np.float32)
    return _rounded(native.rotate_quantize, x, rotation.signs, rotation.mix, rotation.block)


def matmul_planes(activations: Activations, planes: Sequence[Plane]) -> FloatArray:
    """See h2q.codec.decode.matmul_planes."""
    out = np.empty((len(activations.codes), planes[0].spec.rows), np.float32)
    stack = _stack(planes)
    call(native.matmul_planes, activations.codes, activations.scale, activations.sums, stack, out)
    return out


def matmul_rounded(activations: Activations, matrix: RoundedMatrix) -> FloatArray:
    """See h2q.codec.rounded.matmul_rounded."""
    out = np.empty((len(activations.codes), len(matrix.scales)), np.float32)
    inputs = (activations.codes, activations.scale, activations.sums)
    call(native.matmul_rounded, *inputs, matrix.levels, matrix.scales, out)
    return out


def project(
    x: FloatArray, rotation: Rotation, stacks: Sequence[PlaneStack]
) -> tuple[FloatArray, ...]:
    """See h2q.kernels.twins.project."""
    handles = [stack.handle or handle_of(stack) for stack in stacks]
    tokens = len(x)
    if tokens > MANY_TOKENS:  # little room in between, which stays, and each answer by itself
        whole = tuple(np.empty((tokens, stack.rows), np.float32) for stack in stacks)
        for begin in range(0, tokens, MANY_TOKENS):
            rows = slice(begin, begin + MANY_TOKENS)
            for answer, part in zip(whole, project(x[rows], rotation, stacks), strict=True):
                answer[rows] = part
        return whole
    flat = np.empty(tokens * sum([stack.rows for stack in stacks]), np.float32)
    if not call(native.project, x, turn(rotation), handles, flat):
        raise KernelError(NOT_FINITE)
    if len(stacks) == 1:
        return (flat.reshape(tokens, -1) if tokens else flat.reshape(0, stacks[0].rows),)
    out, begin = [], 0
    for stack in stacks:
        end = begin + tokens * stack.rows
        out.append(flat[begin:end].reshape(tokens, stack.rows))
        begin = end
    return tuple(out)


def matmul_dense(x: FloatArray, weights: DenseArray) -> FloatArray:
    """See h2q.kernels.twins.matmul_dense."""
    out = np.empty((len(x), len(weights)), np.float32)
    call(native.matmul_dense, np.ascontiguousarray(x, np.float32), weights, out)
    return out


def gather_rows(planes: Sequence[Plane], ids: npt.NDArray[np.int64]) -> FloatArray:
    """See h2q.codec.decode.gather_rows."""
    out = np.empty((len(ids), planes[0].spec.cols), np.float32)
    call(native.gather_rows, _stack(planes), np.ascontiguousarray(ids, np.int64), out)
    return out


def embed_rows(stack: PlaneStack, ids: npt.NDArray[np.int64], rotation: Rotation) -> FloatArray:
    """See h2q.kernels.twins.embed_rows."""
    out = np.empty((len(ids), rotation.width), np.float32)
    call(native.embed_rows, stack.handle or handle_of(stack), ids, turn(rotation), out)
    return out


def decode_plane(spec: PlaneSpec, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """See h2q.codec.decode.decode_plane."""
    out = np.empty((spec.rows, spec.cols), np.int8)
    call(native.decode_plane, spec.bits, spec.rows, spec.cols, codes, out)
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
    result = call(native.encode_plane, target, bits, feedback, commit, lookahead, codes, progress)
    if result == "not finite":
        raise KernelError("The weights or their feedback contain a value that is not finite.")
    if result == "cancelled":
        raise Cancelled("Encoding was stopped.")
    return codes


def rms_norm(x: FloatArray, weight: FloatArray, eps: float) -> FloatArray:
    """See h2q.kernels.twins.rms_norm."""
    out = np.empty(x.shape, np.float32)
    call(native.rms_norm, x, weight, eps, out)
    return out


def rope(x: FloatArray, cos: FloatArray, sin: FloatArray) -> FloatArray:
    """See h2q.kernels.twins.rope."""
    out = np.empty(x.shape, np.float32)
    call(native.rope, x, cos, sin, out)
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
    call(native.attention, q, k, v, start, *scores, sinks, out)
    return out


def swiglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """See h2q.kernels.twins.swiglu."""
    out = np.empty(gate.shape, np.float32)
    call(native.swiglu, gate, up, out)
    return out


def geglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """See h2q.kernels.twins.geglu."""
    out = np.empty(gate.shape, np.float32)
    call(native.geglu, gate, up, out)
    return out


def add_rms_norm(
    x: FloatArray, delta: FloatArray, weight: FloatArray, eps: float
) -> tuple[FloatArray, FloatArray]:
    """See h2q.kernels.twins.add_rms_norm."""
    total, out = np.empty(x.shape, np.float32), np.empty(x.shape, np.float32)
    call(native.add_rms_norm, x, delta, weight, eps, total, out)
    return total, out


def clamped_swiglu(gate: FloatArray, up: FloatArray) -> FloatArray:
    """See h2q.kernels.twins.clamped_swiglu."""
    out = np.empty(gate.shape, np.float32)
    call(native.clamped_swiglu, gate, up, out)
    return out


def softmax_top(
    logits: FloatArray, k: int
) -> tuple[FloatArray, npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """See h2q.kernels.twins.softmax_top."""
    if not 1 <= k <= logits.shape[1]:
        raise KernelError(f"The top {k} of {logits.shape[1]} entries cannot be given.")
    rows = len(logits)
    best, norm, product = np.empty(rows, np.float32), np.empty(rows), np.empty(rows)
    ids = np.empty((rows, k), np.int64)
    if not call(native.softmax_top, logits, best, norm, product, ids):
        raise KernelError(NO_DISTRIBUTION, fix=LOGITS)
    return best, norm, product, ids


def turn(rotation: Rotation) -> Any:
    """The extension's own form of a rotation, made once."""
    found = _turns.get(id(rotation))
    if found is None:
        if len(_turns) >= MOST_TURNS:
            _turns.clear()
        found = rotation, call(native.Turn, rotation.signs, rotation.mix, rotation.block)
        _turns[id(rotation)] = found
    return found[1]


def handle_of(stack: PlaneStack) -> Any:
    """The extension's own form of a matrix's planes, made once."""
    if stack.handle is None:
        stack.handle = call(native.Stack, _stack(stack.planes))
    return stack.handle


def _rotated(x: FloatArray, rotation: Rotation, inverse: bool) -> FloatArray:
    x = np.ascontiguousarray(x, np.float32)
    out = np.empty_like(x)
    call(native.rotate, x, rotation.signs, rotation.mix, rotation.block, inverse, out)
    return out


def _rounded(operation: Callable[..., bool], x: FloatArray, *more: Any) -> Activations:
    tokens, width = x.shape
    padded = -(-width // ACTIVATION_PADDING) * ACTIVATION_PADDING
    codes = np.empty((tokens, padded), np.int8)
    scale, sums = np.empty(tokens, np.float32), np.empty(tokens, np.int32)
    if not call(operation, x, *more, codes, scale, sums):
        raise KernelError(NOT_FINITE)
    return Activations(codes, scale, sums)


def _stack(planes: Sequence[Plane]) -> list[tuple[int, int, int, Any, Any]]:
    return [(p.spec.bits, p.spec.rows, p.spec.cols, p.codes, p.scales) for p in planes]
