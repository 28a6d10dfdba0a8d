"""h2q update: another crystal behind a name that a running server answers for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from h2q.cli.models import Host, Name, Port
from h2q.cli.options import Json
from h2q.cli.parameters import Argument

SECONDS = 3600.0  # a large crystal is copied, proven and tried


def update(
    name: Name,
    crystal: Annotated[
        str, Argument(metavar="CRYSTAL", help="A folder, or another installed name.")
    ],
    host: Host = None,
    port: Port = None,
    json: Json = False,
) -> None:
    """Put a crystal in the place of an installed one in a running server: it is proven and tried,
    then new requests go to it, and answers under way end on the old one.
    """
    from h2q.cli.output import emit, say
    from h2q.cli.server_client import ServerClient
    from h2q.core.units import format_bytes

    place = Path(crystal).expanduser()
    wish = {"crystal": str(place.resolve())} if place.exists() else {"from": crystal}
    client = ServerClient(host, port, SECONDS)
    done = client.ask("POST", "/api/h2q/update", {"model": name, **wish})
    if json:
        emit({"server": client.address, **done})
    elif done.get("before") == done.get("after"):
        say(f"{name} is that crystal already.")
    else:
        seconds = sum((done.get("seconds") or {}).values())
        shared = format_bytes(done.get("shared") or 0)
        say(f"{name} is the new crystal after {seconds:.2f} s; {shared} of it were there before.")
