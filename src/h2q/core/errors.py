"""Errors are sentences: what happened, where, and what to do next. Each class has its own exit
code.
"""

from __future__ import annotations

from typing import TypeVar

Located = TypeVar("Located", bound="H2QError")


class H2QError(Exception):
    """Base of every error this package raises on purpose.

    `what` is a full sentence, `where` the file, tensor or option it is about, `fix` what the reader
    can do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(" ".join(part for part in (what, where and f"[{where}]", fix) if part))

    def at(self: Located, where: str) -> Located:
        """The same error about a place it did not know: a kernel sees arrays, its caller knows the
        tensor's name. `except KernelError as error: raise error.at(name) from error`.
        """
        return type(self)(self.what, where=where, fix=self.fix)


def shown(name: str) -> str:
    """A foreign name as it may stand in a message: escaped, and short."""
    return ascii(name if len(name) <= 80 else name[:77] + "...")


class UsageError(H2QError):
    """The command or call does not make sense as given."""

    exit_code = 2


class SourceError(H2QError):
    """A model to be read is missing, damaged, or of a kind this version does not know."""

    exit_code = 3


class CrystalError(H2QError):
    """A crystal is missing, damaged, incomplete, or of another format version."""

    exit_code = 4


class SpecError(H2QError):
    """A model description contradicts itself or exceeds a stated limit."""

    exit_code = 5


class TextError(H2QError):
    """A tokenizer or a text does not fit the model."""

    exit_code = 6


class KernelError(H2QError):
    """A numeric operation was given arrays it cannot work on, or a kernel path that is not
    there.
    """

    exit_code = 7


class ResourceError(H2QError):
    """The machine ran out of something: disk, memory, permission."""

    exit_code = 8


class QualityError(H2QError):
    """A stated quality or size target could not be held; the best that was reached is in the
    message.
    """

    exit_code = 9


class NetworkError(H2QError):
    """A server cannot be reached, breaks off, or answers what it should not."""

    exit_code = 10


class AccessError(H2QError):
    """A server asks for a permission that was not given."""

    exit_code = 11


class MissingModelError(H2QError):
    """No installed model has that name."""

    exit_code = 12


class BusyError(H2QError):
    """More requests wait than may; `retry_after` says in how many seconds to ask again."""

    exit_code = 13

    def __init__(
        self, what: str, *, where: str = "", fix: str = "", retry_after: float = 1.0
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.retry_after = retry_after


class InternalError(H2QError):
    """A bug of this package, told by its outermost part: nobody foresaw what happened."""

    exit_code = 70


class Cancelled(H2QError):  # noqa: N818 - it is not a failure
    """The person or the program asked to stop; nothing half-written remains."""

    exit_code = 130
