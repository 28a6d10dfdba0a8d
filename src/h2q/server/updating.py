"""`/api/h2q/update`: another crystal in the place of an installed one, while it is being asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from h2q.core.errors import CrystalError, MissingModelError, QualityError
from h2q.server.address import is_loopback
from h2q.server.connected import while_connected
from h2q.server.refusal import Refusal, refusal_of
from h2q.server.reply import Reply, json_reply
from h2q.server.updating_told import UpdateRequest

if TYPE_CHECKING:
    from h2q.server.request import Request

ONE = "give either `crystal`, a folder, or `from`, the name of an installed model"
NEAR = "a folder can be named from the server's own machine only; name an installed model in `from`"


async def update(request: Request) -> Reply:
    """Answers when new requests go to the new model. A client that leaves before calls it off."""
    given = await request.read(UpdateRequest)
    if bool(given.crystal) == bool(given.from_):
        raise Refusal(400, ONE, param="crystal")
    house = request.house
    try:
        name = request.model = house.card(given.model).name
        crystal = Path(house.folder(given.from_) if given.from_ else given.crystal)
    except MissingModelError as error:
        raise Refusal(404, error.what, param="model") from None
    if given.crystal:
        if not is_loopback((request.scope.get("client") or ("",))[0]):
            raise Refusal(403, NEAR, param="crystal")
        if not crystal.is_absolute():
            raise Refusal(400, "the path of the crystal must be absolute", param="crystal")
    try:
        done = await while_connected(request, house.replace(name, crystal))
    except (CrystalError, QualityError) as error:  # what was given is wrong, not the server
        raise Refusal(400, refusal_of(error).message, param="crystal") from error
    return json_reply(
        {
            "model": done.name,
            "before": done.before,
            "after": done.after,
            "planes": done.planes,
            "shared": done.shared,
            "seconds": {step: round(seconds, 6) for step, seconds in done.seconds.items()},
        }
    )
