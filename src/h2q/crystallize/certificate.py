"""The parts of a certificate that are computed from arrays: spectra of each tensor, identity of
texts, versions.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import h2q
from h2q.geometry.spectrum import incoherence, sketch, spectral_shift

FloatArray = npt.NDArray[np.float32]
TokenArray = npt.NDArray[np.int64]
DIGITS = 6  # significant ones; the files stay short


def tensor_spectra(
    original_rotated: FloatArray,
    crystal: Callable[[npt.NDArray[np.int64]], FloatArray],
    unrotated: FloatArray,
    seed: int = 0,
) -> dict[str, Any]:
    """Keys of a tensor's row in `layers`, from W R^T, rows of its crystal by their indices, and
    W, all float32 (rows, cols):

    incoherence: of W `before` the rotation and of W R^T `after` it. singular_shift: sum of
    |s_i - s_i'| over the sum of s_i. spectral_shift: `total`, the integral of |xi| over the trace
    of W^T W; `largest` |xi|, `of` that many eigenvalues; `curve`, xi at 32 singular values, evenly
    from 0 to `highest` (see SpectralShift.curve); `sketch`, [rows, cols] where a choice of them by
    `seed` stands for the whole, else null. Raises KernelError.
    """
    chosen = sketch(original_rotated.shape, seed)
    shift = spectral_shift(chosen.of(original_rotated), chosen.of_rows(crystal(chosen.rows)))
    trace = float(shift.before.sum())
    highest, curve = shift.curve()
    return {
        "incoherence": {
            "before": _short(incoherence(unrotated)),
            "after": _short(incoherence(original_rotated)),
        },
        "singular_shift": _short(shift.singular_shift),
        "spectral_shift": {
            "total": _short(shift.total / trace) if trace else 0.0,
            "largest": shift.largest,
            "of": len(shift.before),
            "highest": _short(highest),
            "curve": curve,
            "sketch": None if chosen.whole else [len(chosen.rows), len(chosen.cols)],
        },
    }


def tokens_sha256(texts: Sequence[TokenArray]) -> str:
    """SHA-256 in hex of token ids, int64 little-endian, rows after rows, texts after texts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(np.ascontiguousarray(text, "<i8").tobytes())
    return digest.hexdigest()


def text_entry(
    measured_on: str,
    measuring: TokenArray,
    calibrated_on: str,
    calibration: Sequence[TokenArray],
) -> dict[str, Any]:
    """The `text` entry: which tokens were measured and calibrated on. `measuring`: int64 (streams,
    length), all but each row's first token are predicted and counted.
    """
    streams, length = measuring.shape
    return {
        "measured_on": measured_on,
        "tokens": streams * (length - 1),
        "streams": streams,
        "length": length,
        "sha256": tokens_sha256([measuring]),
        "calibrated_on": calibrated_on,
        "calibration_tokens": sum(text.size for text in calibration),
        "calibration_sha256": tokens_sha256(calibration),
    }


def versions() -> dict[str, str]:
    """What computed the certificate."""
    return {
        "h2q": h2q.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
