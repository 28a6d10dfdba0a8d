"""Where to listen, and where another server is: addresses as people write them."""

from __future__ import annotations

import ipaddress
import os
import re

from h2q.core.errors import UsageError

HOST, PORT = "127.0.0.1", 11434  # Ollama's, so that clients find us where they look
_HOST = re.compile(r"(?:(?P<scheme>https?)://)?(?P<host>\[[0-9a-fA-F:.%]+\]|[^/:]*)(?P<rest>.*)")


def configured(host: str | None, port: int | None) -> tuple[str, int]:
    """Host and port: what is given, else what OLLAMA_HOST says, else Ollama's own. A port that is
    none is passed over, as Ollama does.
    """
    text = os.environ.get("OLLAMA_HOST", "").strip().strip("\"'")
    found = _HOST.match(text)
    assert found is not None  # every part may be empty
    named = re.match(r":(\d{1,5})(?:/|$)", found["rest"])
    default = {"http": 80, "https": 443}.get(found["scheme"] or "", PORT)
    told = int(named[1]) if named else default
    return host or found["host"].strip("[]") or HOST, (
        port if port is not None else told if told < 65536 else PORT
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return False


def shown(host: str, port: int) -> str:
    """As a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def upstream(text: str) -> str:
    """The address of another server as a URL without a slash at its end. Raises UsageError."""
    found = re.fullmatch(r"(https?)://([^/?#@\s]+)/?", text if "://" in text else f"http://{text}")
    if found is None or not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?", found[2]):
        raise UsageError(
            "The address of the other server is none.",
            where=text[:200],
            fix="Write it like http://127.0.0.1:11434",
        )
    return f"{found[1]}://{found[2]}"
