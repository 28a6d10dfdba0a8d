"""What is said to the hub and believed of its answers: GETs over the session of huggingface_hub,
with bounded bodies and redirects followed by our own rules.

A redirect never leads from https to http, from a public host to a private address, or to more
than a few further hosts; the token goes to the endpoint's own scheme, host and port alone.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import get_session

import h2q
from h2q.core.errors import AccessError, H2QError, NetworkError, SourceError, UsageError
from h2q.sources.hub_patience import Beginning, LateError

AGENT = f"h2q/{h2q.__version__}"
MAX_HOPS = 5
REACH_SECONDS = 12.0
TIMEOUT = "HF_HUB_DOWNLOAD_TIMEOUT"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 429, 500, 502, 503, 504})
CHECK = "Check the connection and run the command again; what was fetched is kept."
PORTS = {"http": 80, "https": 443}


class BrokenOffError(NetworkError):
    """The transfer broke off; asking again may help."""


@dataclass(frozen=True)
class Hub:
    """A hub to fetch from: its address, the cache on this disk, the value of the authorization
    header, if any, and the kind of answer that is asked for. reach_seconds: until an answer
    begins, or goes on. patience_seconds: of attempts at a file of which nothing comes.
    """

    endpoint: str
    cache: Path
    authorization: str | None = field(default=None, repr=False)
    accept: str = "*/*"
    reach_seconds: float = REACH_SECONDS
    patience_seconds: float = 20.0

    def __post_init__(self) -> None:
        try:
            scheme, host, _ = origin(self.endpoint)
        except ValueError:
            scheme, host = "", ""
        if scheme not in PORTS or not host:
            raise UsageError("HF_ENDPOINT must be an address that begins with https:// or http://.")


def default_hub() -> Hub:
    """As HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN and a stored login say; who sets
    HF_HUB_DOWNLOAD_TIMEOUT waits so long.
    """
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    authorization = f"Bearer {token}" if token else None
    wished = constants.HF_HUB_DOWNLOAD_TIMEOUT if TIMEOUT in os.environ else 0
    return Hub(
        constants.ENDPOINT,
        Path(constants.HF_HUB_CACHE),
        authorization,
        reach_seconds=max(REACH_SECONDS, wished),
    )


@contextmanager
def get(hub: Hub, url: str, where: str, offset: int = 0) -> Iterator[Any]:
    """The answer to a GET from byte `offset` on, status 200 or 206, its body not yet read. Raises
    BrokenOffError, NetworkError, AccessError, SourceError.
    """
    try:
        for _ in range(MAX_HOPS):
            headers = {"User-Agent": AGENT, "Accept-Encoding": "identity", "Accept": hub.accept}
            if hub.authorization and origin(url) == origin(hub.endpoint):
                headers["Authorization"] = hub.authorization
            if offset:
                headers["Range"] = f"bytes={offset}-"
            with _answer(hub, url, headers) as response:
                if response.status_code not in REDIRECTS:
                    _judge(response, where)
                    yield response
                    return
                url = next_address(hub, url, response.headers.get("Location", ""), where)
    except OfflineModeIsEnabled as error:
        raise NetworkError("HF_HUB_OFFLINE forbids to ask the hub.", where=where) from error
    except LateError as error:
        raise BrokenOffError(
            f"The hub cannot be reached: no answer in {hub.reach_seconds:g} s.",
            where=where,
            fix=CHECK,
        ) from error
    except httpx2.TransportError as error:
        raise BrokenOffError(
            "The hub cannot be reached, or breaks off.",
            where=where,
            fix=CHECK,
        ) from error
    except httpx2.InvalidURL as error:
        raise NetworkError("The hub answers with no address.", where=where) from error
    raise NetworkError(f"The hub redirects more than {MAX_HOPS} times.", where=where)


@contextmanager
def _answer(hub: Hub, url: str, headers: dict[str, str]) -> Iterator[Any]:
    begun = Beginning(
        lambda: get_session().stream(
            "GET",
            url,
            headers=headers,
            timeout=hub.reach_seconds,
            follow_redirects=False,
        )
    )
    context, response = begun.within(hub.reach_seconds)
    with ExitStack() as stack:
        stack.push(context)
        yield response


def read_small(hub: Hub, url: str, limit: int, where: str) -> bytes:
    """A whole body of at most `limit` bytes."""
    body = bytearray()
    with get(hub, url, where) as response:
        for part in plain_parts(response, where):
            body += part
            if len(body) > limit:
                raise NetworkError(f"The hub answers with more than {limit:,} bytes.", where=where)
    return bytes(body)


def plain_parts(response: Any, where: str) -> Iterator[bytes]:
    """The body as it comes over the wire; a compressed one is refused (none was asked for)."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise NetworkError("The hub answers in a compression that was not asked for.", where=where)
    parts: Iterator[bytes] = response.iter_raw()
    return parts


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address. Raises ValueError."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme)


def next_address(hub: Hub, url: str, location: str, where: str) -> str:
    """Where a redirect leads, if it may. Raises NetworkError."""
    try:
        target = urljoin(url, location)
        scheme, host, _ = origin(target)
        downgrade = urlsplit(url).scheme == "https" and scheme != "https"
        inward = is_private(host) and not is_private(origin(hub.endpoint)[1])
        if not location or scheme not in PORTS or not host or "@" in urlsplit(target).netloc:
            raise ValueError
    except ValueError as error:
        raise NetworkError("The hub redirects to no address.", where=where) from error
    if downgrade:
        raise NetworkError("The hub redirects from https to http.", where=where)
    if inward:
        raise NetworkError("The hub redirects to a private address.", where=where)
    return target


def is_private(host: str) -> bool:
    """Whether a host is, or has, an address that is not open to the world."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        pass
    try:
        found = {str(row[4][0]).partition("%")[0] for row in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False  # a proxy may know names that this machine does not
    return not all(ipaddress.ip_address(address).is_global for address in found)


def _judge(response: Any, where: str) -> None:
    """Raises on every status but 200 and 206."""
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    if status in (200, 206):
        return
    error: H2QError
    if code == "GatedRepo":
        error = AccessError(
            "The model is gated: its owners ask who uses it.",
            where=where,
            fix="Ask for access on its page, then set HF_TOKEN or log in with `hf auth login`.",
        )
    elif status in (401, 403):
        error = AccessError(
            "The hub does not show this model: it does not exist, or is private.",
            where=where,
            fix="Check the name; for a private model set HF_TOKEN or log in with `hf auth login`.",
        )
    elif status == 404:
        what = "revision" if code == "RevisionNotFound" else "model or file"
        error = SourceError(
            f"There is no such {what} on the hub.",
            where=where,
            fix="A name is hf:org/name@revision.",
        )
    elif status in PASSING:
        error = BrokenOffError(
            f"The hub is busy or broken (status {status}).", where=where, fix="Try again later."
        )
    else:
        error = NetworkError(f"The hub refuses with status {status}.", where=where)
    raise error
