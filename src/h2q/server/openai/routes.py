"""The endpoints of OpenAI's API, in one list, and its errors."""

from __future__ import annotations

from collections.abc import Sequence

from h2q.server.dialect import Route
from h2q.server.refusal import Refusal
from h2q.server.reply import Reply, json_reply
from h2q.server.sse import STREAM

HERE = "h2q.server.openai."
SHAPES = HERE + "shapes:"
TOLD = HERE + "told:"
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class OpenAI:
    """The dialect."""

    name = "OpenAI"
    refuses = TOLD + "OpenAIError"

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                "POST",
                "/v1/chat/completions",
                HERE + "chat:chat",
                "Answer a conversation.",
                takes=SHAPES + "ChatCompletionRequest",
                gives=TOLD + "ChatCompletion",
                streams=STREAM,
                pieces=TOLD + "ChatCompletionChunk",
            ),
            Route(
                "POST",
                "/v1/completions",
                HERE + "completions:completions",
                "Go on with a text.",
                takes=SHAPES + "CompletionRequest",
                gives=TOLD + "TextCompletion",
                streams=STREAM,
                pieces=TOLD + "TextCompletion",
            ),
            Route(
                "POST",
                "/v1/embeddings",
                HERE + "embeddings:embeddings",
                "Turn texts into vectors.",
                takes=SHAPES + "EmbeddingRequest",
                gives=TOLD + "EmbeddingList",
            ),
            Route(
                "POST",
                "/v1/responses",
                HERE + "responses:responses",
                "Answer items with items.",
                takes=SHAPES + "ResponseRequest",
                gives=TOLD + "ResponseDocument",
                streams=STREAM,
                pieces=TOLD + "ResponseEvent",
            ),
            Route(
                "GET",
                "/v1/models",
                HERE + "models:models",
                "Installed models.",
                gives=TOLD + "ModelList",
            ),
            Route(
                "GET",
                "/v1/models/{model:path}",
                HERE + "models:model",
                "One of them.",
                gives=TOLD + "ModelItem",
            ),
        )

    def error(self, refusal: Refusal) -> Reply:
        return json_reply({"error": error_of(refusal)}, refusal.status, refusal.headers)


def error_of(refusal: Refusal) -> dict[str, str | None]:
    """A refusal as OpenAI tells it."""
    status = refusal.status
    kind = "invalid_request_error" if 400 <= status < 499 else "api_error"
    code = CODES.get(status)
    if status == 404 and refusal.param == "model":
        code = "model_not_found"
    return {
        "message": refusal.message,
        "type": KINDS.get(status, kind),
        "param": refusal.param or None,
        "code": code,
    }
