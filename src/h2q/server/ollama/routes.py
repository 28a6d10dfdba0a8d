"""The endpoints of Ollama's native API, in one list, and its errors."""

from __future__ import annotations

from collections.abc import Sequence

from h2q.server.dialect import Route
from h2q.server.ollama.words import dumps
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply

HERE = "h2q.server.ollama."
NDJSON = "application/x-ndjson"


class Ollama:
    """The dialect."""

    name = "Ollama"

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", "/", HERE + "about:root", "Is it running?", open=True),
            Route("GET", "/api/version", HERE + "about:version", "The version."),
        )

    def error(self, refusal: Refusal) -> Reply:
        return Reply(dumps({"error": refusal.message}), refusal.status, headers=refusal.headers)
