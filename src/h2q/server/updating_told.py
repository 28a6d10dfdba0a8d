"""Bodies of `/api/h2q/update`."""

from __future__ import annotations

from pydantic import Field

from h2q.server.wire import Told, Wire


class UpdateRequest(Wire):
    """Another crystal for a model: one of `crystal` and `from`."""

    model: str = Field(description="its name")
    crystal: str = Field("", description="a folder on the server's machine")
    from_: str = Field("", alias="from", description="an installed model, whose crystal it is")


class UpdateTold(Told):
    """What was done. Where `before` and `after` are the same, nothing was to do."""

    model: str
    before: str = Field(description="fingerprint of the crystal before")
    after: str = Field(description="and of the one that answers now")
    planes: int = Field(description="that the new worker began with")
    shared: int = Field(description="bytes of its shards that the old one has too")
    seconds: dict[str, float] = Field(description="of each step")
