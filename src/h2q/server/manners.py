"""Who may come in: pure ASGI middleware, from the outside in. It looks at heads only and never
holds a piece of an answer back.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

ASGI = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Refuse = Callable[[dict[str, Any], Any, int, str], Awaitable[None]]

LOCAL_NAMES = (".localhost", ".local", ".internal")
LOCAL_ORIGINS = ("localhost", "127.0.0.1", "0.0.0.0", "[::1]")
APPS = ("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*")
EXTENSIONS = ("chrome-extension://*", "moz-extension://*", "safari-web-extension://*")
METHODS = b"GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
HEADERS = (
    b"Authorization, Content-Type, User-Agent, Accept, X-Requested-With, OpenAI-Beta, X-Api-Key, "
    b"Anthropic-Version, Anthropic-Beta, x-stainless-lang, x-stainless-package-version, "
    b"x-stainless-os, x-stainless-arch, x-stainless-retry-count, x-stainless-runtime, "
    b"x-stainless-runtime-version, x-stainless-async, x-stainless-helper-method, "
    b"x-stainless-poll-helper, x-stainless-custom-poll-interval, x-stainless-timeout"
)


def header(scope: dict[str, Any], name: bytes) -> bytes:
    """The first header of that name, empty if there is none."""
    return next((value for key, value in scope["headers"] if key == name), b"")


class HostCheck:
    """On a loopback listener only names of this machine may be asked for: a page that points its
    own name at 127.0.0.1 (DNS rebinding) is turned away with 403.
    """

    def __init__(self, inner: ASGI, loopback: bool) -> None:
        self._inner, self._loopback = inner, loopback
        self._name = socket.gethostname().lower()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        hosts = [value for key, value in scope["headers"] if key == b"host"]
        twice = len(hosts) > 1  # who reads the other one is told another story
        if twice or (self._loopback and not self._known(hosts[0] if hosts else b"")):
            status = 400 if twice else 403
            start = {"type": "http.response.start", "status": status, "headers": [_NOTHING]}
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        await self._inner(scope, receive, send)

    def _known(self, value: bytes) -> bool:
        host = re.sub(r":\d*$", "", value.decode("latin-1").lower()).strip("[]").rstrip(".")
        if host in ("", "localhost", self._name) or host.endswith(LOCAL_NAMES):
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        near = address.is_loopback or address.is_private or address.is_unspecified
        return near or is_own(str(address))


_NOTHING = (b"content-length", b"0")


def is_own(address: str) -> bool:
    """Whether an interface of this machine has the address: only then can a socket be bound to
    it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
    except OSError:
        return False
    return True


class Origins:
    """Which web pages may call: those of this machine, of desktop programs, and of the list. Others
    get no CORS headers, and what they send is refused, so that a form post does nothing.
    """

    def __init__(self, inner: ASGI, more: Iterable[str], refuse: Refuse) -> None:
        self._inner, self._refuse = inner, refuse
        local = rf"https?://({'|'.join(map(re.escape, LOCAL_ORIGINS))})(:\d{{1,5}})?"
        named = (re.escape(text.strip().lower()) for text in (*APPS, *EXTENSIONS, *more))
        patterns = [local, *(text.replace(r"\*", ".*") for text in named)]
        self._allowed = re.compile("|".join(patterns))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        origin = header(scope, b"origin")
        if not origin and scope["method"] != "OPTIONS":
            await self._inner(scope, receive, send)
            return
        if origin and not self._welcome(scope, origin):
            await self._refuse(scope, send, 403, "this origin may not use the server")
            return
        headers = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")] if origin else []
        if scope["method"] == "OPTIONS":
            headers += [
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", HEADERS),
                (b"access-control-max-age", b"43200"),
            ]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        await self._inner(scope, receive, send_with_headers)

    def _welcome(self, scope: dict[str, Any], origin: bytes) -> bool:
        text = origin.decode("latin-1").lower()
        own = header(scope, b"host").decode("latin-1").lower()
        return text.partition("://")[2] == own or bool(self._allowed.fullmatch(text))


class Keys:
    """Without one of the keys only open endpoints answer; every comparison takes the same time."""

    def __init__(self, inner: ASGI, keys: Iterable[str], is_open: Any, refuse: Refuse) -> None:
        self._inner, self._open, self._refuse = inner, is_open, refuse
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if self._keys and not self._open(scope["method"], scope["path"]):
            given = _bearer(header(scope, b"authorization")) or header(scope, b"x-api-key")
            found = -1
            for number, key in enumerate(self._keys):
                if hmac.compare_digest(given, key):
                    found = number
            if found < 0:
                words = "a valid API key is needed" if given else "an API key is needed"
                await self._refuse(scope, send, 401, words)
                return
            scope["h2q.client"] = f"key {found + 1}"
        await self._inner(scope, receive, send)


def _bearer(value: bytes) -> bytes:
    kind, _, key = value.partition(b" ")
    return key.strip() if kind.lower() == b"bearer" else b""
