"""A server that may be running on this machine, asked over its own API."""

from __future__ import annotations

import http.client
import json
from typing import Any

from h2q.core.errors import (
    AccessError,
    BusyError,
    H2QError,
    MissingModelError,
    NetworkError,
    UsageError,
)

SECONDS = 10.0
MAX_ANSWER = 64 << 20
STATUS: dict[int, type[H2QError]] = {
    400: UsageError,
    401: AccessError,
    403: AccessError,
    404: MissingModelError,
    503: BusyError,
}


class ServerClient:
    """At the host and port of the settings, or where the person says. seconds: an answer may take
    so long.
    """

    def __init__(
        self, host: str | None = None, port: int | None = None, seconds: float = SECONDS
    ) -> None:
        from h2q.server.address import configured

        self.host, self.port = configured(host, port)
        self._seconds = seconds
        if self.host in ("0.0.0.0", "::", ""):
            self.host = "127.0.0.1"

    @property
    def address(self) -> str:
        from h2q.server.address import shown

        return shown(self.host, self.port)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that is answered. Raises NetworkError where no server answers, and the
        error that its status stands for.
        """
        from h2q.core.settings import api_keys

        keys = api_keys()
        headers = {"Authorization": f"Bearer {keys[0]}"} if keys else {}
        data = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self._seconds)
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read(MAX_ANSWER)
            found = json.loads(text) if text else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NetworkError(
                "No server answers there.",
                where=self.address,
                fix="Start one with `h2q serve`, or say where with --host and --port.",
            ) from error
        finally:
            connection.close()
        if not isinstance(found, dict):
            raise NetworkError("What answers there is no server of models.", where=self.address)
        if answer.status >= 400:
            kind = STATUS.get(answer.status, NetworkError)
            raise kind(str(found.get("error", answer.reason))[:1000], where=self.address)
        return found
