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
TOLD = HERE + "told:"
ROUTES = (
    Route("GET", "/", HERE + "about:root", "Is it running?", text="text/plain", open=True),
    Route(
        "GET", "/api/version", HERE + "about:version", "The version.", "", TOLD + "VersionAnswer"
    ),
    Route(
        "GET",
        "/api/status",
        HERE + "about:status",
        "Whether there is a cloud: no.",
        gives=TOLD + "StatusAnswer",
    ),
    Route(
        "POST",
        "/api/generate",
        HERE + "answers:generate",
        "Go on with a prompt.",
        SHAPES + "GenerateRequest",
        TOLD + "GenerateAnswer",
        streams=NDJSON,
        pieces=TOLD + "GenerateAnswer",
    ),
    Route(
        "POST",
        "/api/chat",
        HERE + "answers:chat",
        "Answer a conversation.",
        SHAPES + "ChatRequest",
        TOLD + "ChatReply",
        streams=NDJSON,
        pieces=TOLD + "ChatReply",
    ),
    Route(
        "POST",
        "/api/embed",
        HERE + "embed:embed",
        "Texts to vectors.",
        SHAPES + "EmbedRequest",
        TOLD + "EmbedAnswer",
    ),
    Route(
        "POST",
        "/api/embeddings",
        HERE + "embed:embeddings",
        "A text to a vector; the older form.",
        SHAPES + "EmbeddingsRequest",
        TOLD + "EmbeddingsAnswer",
    ),
    Route(
        "GET",
        "/api/tags",
        HERE + "listing:tags",
        "Installed models.",
        gives=TOLD + "InstalledModels",
    ),
    Route(
        "GET",
        "/api/ps",
        HERE + "listing:running",
        "Models in memory.",
        gives=TOLD + "ModelsInMemory",
    ),
    Route(
        "POST",
        "/api/show",
        HERE + "listing:show",
        "One model.",
        SHAPES + "ShowRequest",
        TOLD + "ShowAnswer",
    ),
    Route(
        "POST",
        "/api/pull",
        HERE + "work:pull",
        "Fetch and crystallize a model.",
        SHAPES + "WorkRequest",
        TOLD + "WorkStep",
        streams=NDJSON,
        pieces=TOLD + "WorkStep",
    ),
    Route(
        "POST",
        "/api/create",
        HERE + "work:create",
        "Make a model from another, or from files.",
        SHAPES + "CreateRequest",
        TOLD + "WorkStep",
        streams=NDJSON,
        pieces=TOLD + "WorkStep",
    ),
    Route("POST", "/api/push", HERE + "work:push", "Not possible.", SHAPES + "WorkRequest"),
    Route("POST", "/api/copy", HERE + "work:copy", "A second name.", SHAPES + "CopyRequest"),
    Route("DELETE", "/api/delete", HERE + "work:delete", "Remove a name.", SHAPES + "NameRequest"),
    Route("HEAD", "/api/blobs/{digest}", HERE + "work:has_blob", "Was it uploaded?"),
    Route("POST", "/api/blobs/{digest}", HERE + "work:add_blob", "Upload a file.", upload=True),
)


class Ollama:
    """The dialect."""

    name = "Ollama"
    refuses = TOLD + "OllamaError"

    def routes(self) -> Sequence[Route]:
        return ROUTES

    def error(self, refusal: Refusal) -> Reply:
        return Reply(dumps({"error": refusal.message}), refusal.status, headers=refusal.headers)
