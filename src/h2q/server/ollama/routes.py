"""The endpoints of Ollama's native API, in one list, and its errors."""

from __future__ import annotations

from collections.abc import Sequence

from h2q.server.dialect import Route
from h2q.server.ollama.words import dumps
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply

HERE = "h2q.server.ollama."
NDJSON = "application/x-ndjson"


SHAPES = HERE + "shapes:"
ROUTES = (
    Route("GET", "/", HERE + "about:root", "Is it running?", open=True),
    Route("GET", "/api/version", HERE + "about:version", "The version."),
    Route("GET", "/api/status", HERE + "about:status", "Whether there is a cloud: no."),
    Route(
        "POST",
        "/api/generate",
        HERE + "answers:generate",
        "Go on with a prompt.",
        SHAPES + "GenerateRequest",
        streams=NDJSON,
    ),
    Route(
        "POST",
        "/api/chat",
        HERE + "answers:chat",
        "Answer a conversation.",
        SHAPES + "ChatRequest",
        streams=NDJSON,
    ),
    Route("POST", "/api/embed", HERE + "embed:embed", "Texts to vectors.", SHAPES + "EmbedRequest"),
    Route(
        "POST",
        "/api/embeddings",
        HERE + "embed:embeddings",
        "A text to a vector; the older form.",
        SHAPES + "EmbeddingsRequest",
    ),
    Route("GET", "/api/tags", HERE + "listing:tags", "Installed models."),
    Route("GET", "/api/ps", HERE + "listing:running", "Models in memory."),
    Route("POST", "/api/show", HERE + "listing:show", "One model.", SHAPES + "ShowRequest"),
    Route(
        "POST",
        "/api/pull",
        HERE + "work:pull",
        "Fetch and crystallize a model.",
        SHAPES + "WorkRequest",
        streams=NDJSON,
    ),
    Route(
        "POST",
        "/api/create",
        HERE + "work:create",
        "Make a model from another, or from files.",
        SHAPES + "CreateRequest",
        streams=NDJSON,
    ),
    Route("POST", "/api/push", HERE + "work:push", "Not possible.", SHAPES + "WorkRequest"),
    Route("POST", "/api/copy", HERE + "work:copy", "A second name.", SHAPES + "CopyRequest"),
    Route("DELETE", "/api/delete", HERE + "work:delete", "Remove a name.", SHAPES + "NameRequest"),
    Route("HEAD", "/api/blobs/{digest}", HERE + "work:has_blob", "Was it uploaded?"),
    Route("POST", "/api/blobs/{digest}", HERE + "work:add_blob", "Upload a file."),
)


class Ollama:
    """The dialect."""

    name = "Ollama"

    def routes(self) -> Sequence[Route]:
        return ROUTES

    def error(self, refusal: Refusal) -> Reply:
        return Reply(dumps({"error": refusal.message}), refusal.status, headers=refusal.headers)
