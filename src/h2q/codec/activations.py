"""The NumPy reference of quantizing activations: int8, one scale per token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.codec.planes import ACTIVATION_PADDING, Activations
from h2q.core.errors import KernelError

SILENCE = np.float32(
    1e-30
)  # below this a token counts as zero, so that the inverse scale stays finite


def quantize(x: npt.NDArray[np.float32]) -> Activations:
    """Quantize (T, width) float32 inputs. Raises KernelError when a value is not finite."""
    tokens, width = x.shape
    loudest = np.max(np.abs(x), axis=1, initial=0.0).astype(np.float32)
    if not np.isfinite(loudest).all():
        raise KernelError("The activations contain a value that is not a finite number.")
    quiet = loudest < SILENCE
    inverse = np.float32(127) / np.where(quiet, np.float32(1), loudest)
    codes = np.zeros((tokens, -(-width // ACTIVATION_PADDING) * ACTIVATION_PADDING), np.int8)
    codes[:, :width] = np.rint(x * inverse[:, None])
    codes[quiet] = 0
    scale = np.where(quiet, np.float32(0), loudest / np.float32(127)).astype(np.float32)
    return Activations(codes, scale, codes.sum(axis=1, dtype=np.int32))
