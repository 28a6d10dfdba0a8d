"""A request that is not fulfilled: its HTTP status and its words, before a dialect dresses them."""

from __future__ import annotations

from h2q.core.errors import (
    AccessError,
    BusyError,
    Cancelled,
    CrystalError,
    H2QError,
    MissingModelError,
    NetworkError,
    SourceError,
    TextError,
    UsageError,
)

CLIENT_GONE = 499  # as nginx and Ollama number it
INTERNAL = "internal error; the log of the server has it under this request's id"

_STATUS: dict[type[H2QError], int] = {
    MissingModelError: 404,
    UsageError: 400,
    TextError: 400,
    SourceError: 400,
    BusyError: 503,
    Cancelled: CLIENT_GONE,
    AccessError: 403,
    NetworkError: 502,
    CrystalError: 500,
}


class Refusal(H2QError):  # noqa: N818 - it is an answer
    """An answer with an HTTP status of 400 or more. `message` is for the client; `param` the field
    it is about, for dialects that tell; `headers` go with it. `id`: of the request, as in the log.
    """

    id = ""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.headers = status, message, param, headers


class Gone(Exception):  # noqa: N818 - nobody is left to tell
    """The client closed the connection."""


def refusal_of(error: BaseException, request_id: str = "") -> Refusal:
    """Any error as a refusal. An unforeseen one says nothing of its inside."""
    refusal = _refusal(error)
    refusal.id = request_id
    return refusal


def _refusal(error: BaseException) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if not isinstance(error, H2QError):
        return Refusal(500, INTERNAL)
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, BusyError):
        headers = (retry_after(error.retry_after),)
    words = " ".join(part for part in (error.what, error.fix) if part)
    param = error.where if isinstance(error, UsageError) else ""
    return Refusal(status, words, param=param, headers=headers)


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The header that says when to come back, in whole seconds."""
    return b"retry-after", str(max(1, round(seconds))).encode()
