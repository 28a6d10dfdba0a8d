"""What the transcripts hold, read by the models that the clients of both companies ship."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import Field, TypeAdapter

from transcripts import FOLDER, Exchange, read

ResponseEvent = Annotated[get_args(ResponseStreamEvent)[0], Field(discriminator="type")]
PACKED = "packed"  # numbers as base64: the client itself unpacks them
SHAPES: dict[str, tuple[Any, Any]] = {  # of a whole answer, of one event
    "POST /v1/chat/completions": (ChatCompletion, ChatCompletionChunk),
    "POST /v1/completions": (Completion, Completion),
    "POST /v1/responses": (Response, ResponseEvent),
    "POST /v1/embeddings": (CreateEmbeddingResponse, None),
    "POST /v1/messages": (Message, RawMessageStreamEvent),
    "POST /v1/messages/count_tokens": (MessageTokensCount, None),
    "GET /v1/models/scripted": (Model, None),
}


def fulfilled() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.txt")):
        for exchange in read(path):
            line = exchange.request.partition("\n")[0]
            if line in SHAPES and exchange.answer.startswith("200") and exchange.title != PACKED:
                yield pytest.param(exchange, *SHAPES[line], id=f"{path.stem}: {exchange.title}")


@pytest.mark.parametrize(("exchange", "whole", "event"), [*fulfilled()])
def test_the_clients_models_take_it(exchange: Exchange, whole: Any, event: Any) -> None:
    head, _, text = exchange.answer.partition("\n")
    whole_answer = "json" in head
    if whole_answer:
        told = [json.loads(text)]
        shape = whole
    else:
        lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        told = [json.loads(line) for line in lines if line != "[DONE]"]
        told = [document for document in told if "error" not in document]
        shape = event
    adapter = TypeAdapter(shape)
    for document in told:
        if shape is Completion and not whole_answer:  # its author's model knows no open stream
            for choice in document["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        read_back = adapter.validate_python(document)
        found = adapter.dump_python(read_back, exclude_unset=True, by_alias=True)
        assert found == document
