"""Which implementation answers: the NumPy twins, or one of the native paths this processor can
execute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from h2q.core import settings
from h2q.core.errors import KernelError
from h2q.kernels import extension, native, twins

NUMPY = "numpy"


class _Choice:
    """The active path of this process; chosen on first use."""

    def __init__(self) -> None:
        self.path = ""

    def resolve(self) -> str:
        if not self.path:
            native_paths = available()
            self.set(settings.kernel() or native_paths[0])
        return self.path

    def set(self, path: str) -> None:
        if path not in available():
            raise KernelError(
                f"The kernel path {path!r} is not available here.",
                fix=f"Available: {', '.join(available())}. `h2q doctor` says why.",
            )
        if path != NUMPY:
            extension.use(path)
        self.path = path


_choice = _Choice()


def available() -> list[str]:
    """Paths that work in this process, fastest first; the NumPy twins are always last."""
    return [*extension.paths(), NUMPY]


def path() -> str:
    """Name of the active path."""
    return _choice.resolve()


def implementation() -> ModuleType:
    """The module that implements the operations on the active path."""
    return twins if _choice.resolve() == NUMPY else native


@contextmanager
def using(name: str) -> Iterator[None]:
    """Force a path for the duration of a with block (whole process). Raises KernelError when it is
    not available.
    """
    before = _choice.resolve()
    _choice.set(name)
    try:
        yield
    finally:
        _choice.set(before)


def features() -> dict[str, dict[str, bool]]:
    """Instruction groups: {'found': by CPUID, 'executed': a guarded trial ran}. Empty without the
    extension.
    """
    return extension.features()


def load_error() -> str:
    """Why the extension could not be loaded; empty when it is there."""
    return extension.load_error()


def set_threads(count: int) -> None:
    """Size of the worker pool, the calling thread included, 1 to 256. Raises KernelError beyond."""
    extension.set_threads(count)


def threads() -> int:
    """Threads that take part in an operation; unless told, one for each core for performance."""
    return extension.threads()


def cores() -> tuple[int, int]:
    """Usable cores for performance and for efficiency; the second is 0 where there is one kind."""
    return extension.cores()
