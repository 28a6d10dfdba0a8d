"""Whether the other side of a connection has left, asked of the system.

The loop learns it only when it next reads; tokens that came together would all be sent before.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

# Linux tells that the other side has closed its half; elsewhere only that all of it is over.
_OVER = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def stays() -> bool:
    """Of a connection that nothing is known about: nobody left."""
    return False


def leaving(transport: Any) -> Callable[[], bool]:
    """A question that may be asked before every piece: one system call, about a microsecond."""
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return stays
    look = select.poll()
    look.register(socket.fileno(), _OVER)

    def left() -> bool:
        # A closed transport's number may be another connection's by now.
        return bool(transport.is_closing() or look.poll(0))

    return left
