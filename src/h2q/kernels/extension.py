"""The extension: the only module that imports it. What is asked of it as a whole, and how it is
called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from h2q.codec.constants import COLUMNS, LEVELS
from h2q.core import settings
from h2q.core.errors import KernelError

native: Any = None
_load_error = ""
try:
    native = importlib.import_module("h2q.kernels._native")
except ImportError as error:  # the twins take over; `h2q doctor` shows the reason
    _load_error = str(error)


def set_code(bits: int, columns: Sequence[int], levels: npt.NDArray[np.int8]) -> None:
    """Exchange a code in the extension, for a search after better constants: 12 columns, 32 levels
    within +-63. The twins keep their own.
    """
    native.set_code_tables(bits, np.array(columns, np.uint8), levels)


if native:
    for _bits, _columns in COLUMNS.items():
        set_code(_bits, _columns, LEVELS[_bits])
    if (_threads := settings.threads()) is not None:
        native.set_threads(_threads)


def load_error() -> str:
    """Why the extension could not be loaded; empty when it is there."""
    return _load_error


def paths() -> list[str]:
    """Native paths that can run here, fastest first."""
    return list(native.paths()) if native else []


def use(path: str) -> None:
    """Switch to a path of `paths()`."""
    native.use(path)


def features() -> dict[str, dict[str, bool]]:
    """Instruction groups found by CPUID and executed under a guard."""
    return dict(native.features()) if native else {}


def set_threads(count: int) -> None:
    """Size of the worker pool, the calling thread included, 1 to 256. Raises KernelError beyond."""
    if native:
        call(native.set_threads, count)


def threads() -> int:
    """Threads that take part in an operation."""
    return int(native.threads()) if native else 1


def cores() -> tuple[int, int]:
    """Usable cores for performance and for efficiency; the second is 0 where there is one kind."""
    return tuple(native.cores()) if native else (settings.usable_cores(), 0)


def read_forms() -> int:
    """See h2q.kernels.references."""
    return int(native.read_forms())


def read_words(words: npt.NDArray[np.uint64], form: int) -> int:
    """See h2q.kernels.references."""
    return int(call(native.read_words, words, form))


def repeat_dots(rounds: int) -> int:
    """See h2q.kernels.references."""
    return int(native.repeat_dots(rounds))


def synchronise(rounds: int, meet: bool) -> int:
    """See h2q.kernels.references."""
    return int(native.synchronise(rounds, meet))


def call(operation: Callable[..., Any], *arguments: Any) -> Any:
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
