"""Wishes about a running model; they hold from its next step on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2q.core.errors import UsageError
from h2q.runtime.worker import Control

if TYPE_CHECKING:
    from h2q.runtime.service import Service


def fulfil(service: Service, control: Control) -> None:
    """From any thread. Raises UsageError for a wish that is none."""
    started, wish = service.started, control.wish
    if wish == "pin":
        started.pin(control.planes)
        service.pinned = control.planes
    elif wish == "refine":
        started.refine()
    elif wish == "drop":
        started.drop()
    elif wish == "forget":
        service.forget()
    elif wish != "status":
        raise UsageError(f"There is no wish {wish!r}.", fix="status, pin, refine, drop, forget.")
