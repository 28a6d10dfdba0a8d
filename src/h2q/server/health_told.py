"""Bodies of the house's own endpoints as they go out, for the documentation."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from h2q.server.wire import Told


class Live(Told):
    """The process is up."""

    status: Literal["live"]


class Ready(Told):
    """It takes requests."""

    status: Literal["ready"]
    running: int = Field(description="requests that have a token")
    waiting: int = Field(description="requests that have none yet")


class Interface(Told):
    """An OpenAPI document."""

    model_config = ConfigDict(extra="allow")

    openapi: str


class HouseError(Told):
    """Why a request is not fulfilled."""

    error: str
