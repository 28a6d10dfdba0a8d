"""What the speed of an operation is held against, native and on every thread of the pool: reading
memory, bare multiply-adds, threads that meet. They have no twins, because they have no result.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from h2q.core.errors import KernelError
from h2q.kernels import extension
from h2q.kernels.paths import NUMPY, path


def require_native() -> None:
    """Raises KernelError where the extension is missing or the twins are chosen: they are correct,
    and no measure of speed.
    """
    if path() == NUMPY:
        raise KernelError(
            "Speed can only be measured on a native kernel path.",
            where=extension.load_error() or "H2Q_KERNEL=numpy",
            fix="`h2q doctor` says what this machine can do.",
        )


def read_forms() -> int:
    """Ways to read memory that run here; which one is fastest differs from hour to hour."""
    return extension.read_forms()


def read_words(words: npt.NDArray[np.uint64], form: int) -> int:
    """The sum modulo 2^64 of contiguous uint64 (n,), read in one of the forms."""
    return extension.read_words(words, form)


def repeat_dots(rounds: int) -> int:
    """Multiply-adds done by every thread, registers to registers, in that many rounds on the active
    path.
    """
    return extension.repeat_dots(rounds)


def synchronise(rounds: int, meet: bool) -> int:
    """`rounds` jobs of one unit per thread: empty ones, or ones in which no unit ends before all
    have begun. Returns in how many of them every thread was found.
    """
    return extension.synchronise(rounds, meet)
