"""Bodies of `/api/h2q/state` and `/api/h2q/control`."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from h2q.server.wire import Told, Wire


class ControlRequest(Wire):
    """A wish about a model."""

    model: str = Field(description="its name")
    wish: str = Field(description="load, unload, status, pin, refine, drop or forget")
    planes: int | None = Field(None, description="for `pin`: how many take part; none: let go")


class Controlled(Told):
    """What came of it."""

    model_config = ConfigDict(extra="allow")

    model: str
    state: dict[str, Any] | None = Field(None, description="of the worker, unless it was unloaded")
    unloaded: bool | None = Field(None, description="whether it was there")


class HouseState(Told):
    """All that a dashboard shows."""

    model_config = ConfigDict(extra="allow")

    up_seconds: float
    draining: bool
    running: int = Field(description="requests that get tokens")
    waiting: int = Field(description="requests without a token yet")
    refused: int = Field(description="requests turned away since the start")
    memory: dict[str, int] = Field(description="bytes: resident, promised, free")
    models: list[dict[str, Any]]
    history: list[dict[str, Any]] = Field(description="a sample every two seconds, ten minutes")
