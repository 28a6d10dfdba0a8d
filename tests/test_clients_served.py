"""The clients of OpenAI and Anthropic against `h2q serve` with the seed's crystal: a real process,
a real model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from clients import client, other
from served import Served, served, until

__all__ = ["client", "other"]
HI: Any = [{"role": "user", "content": "Once upon a time there was a"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "maximum": 9}},
    "required": ["kind", "legs"],
    "additionalProperties": False,
}
PLAIN: Any = {"model": "seed", "max_tokens": 16, "extra_body": {"temperature": 0}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home"), seed=seed_path) as found:
        yield found


def test_streamed_is_whole(client: openai.OpenAI, other: anthropic.Anthropic) -> None:
    asked: Any = {"model": "seed", "messages": HI, "temperature": 0, "max_tokens": 16}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3)
    text = whole.choices[0].message.content
    assert text
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 16
    assert whole.choices[0].finish_reason == "length"
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 16
    for token in logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob <= 0
        assert sum(math.exp(one.logprob) for one in token.top_logprobs) <= 1.0001
    stream = client.chat.completions.create(**asked, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == text
    assert len([piece for piece in pieces if piece]) > 8
    likewise: Any = {**PLAIN, "messages": HI}
    message = other.messages.create(**likewise)
    assert message.content[0].text == text  # type: ignore[union-attr]
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 16
    with other.messages.stream(**likewise) as told:
        assert told.get_final_text() == text
    counted = other.messages.count_tokens(model="seed", messages=HI)
    assert counted.input_tokens == whole.usage.prompt_tokens
    asked = {"model": "seed", "input": HI, "temperature": 0, "max_output_tokens": 16}
    response = client.responses.create(**asked)
    assert response.output_text == text
    assert response.incomplete_details is not None
    events = list(client.responses.create(**asked, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == text
    assert events[-1].type == "response.incomplete"


def test_a_stop_text(client: openai.OpenAI, other: anthropic.Anthropic) -> None:
    asked: Any = {"model": "seed", "messages": HI, "temperature": 0, "max_tokens": 16}
    text = client.chat.completions.create(**asked).choices[0].message.content or ""
    stop = text[len(text) // 2 :][:3]
    cut = client.chat.completions.create(**asked, stop=[stop]).choices[0]
    assert (cut.message.content, cut.finish_reason) == (text[: text.index(stop)], "stop")
    message = other.messages.create(**PLAIN, messages=HI, stop_sequences=["never so", stop])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)


def test_a_schema_holds_any_model(client: openai.OpenAI, other: anthropic.Anthropic) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA}}
    for seed in range(4):
        answer = client.chat.completions.create(
            model="seed", messages=HI, response_format=form, seed=seed, max_tokens=200
        )
        found = json.loads(answer.choices[0].message.content or "")
        assert set(found) == {"kind", "legs"}
        assert found["legs"] <= 9
    config: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    message = other.messages.create(
        model="seed", messages=HI, max_tokens=200, output_config=config
    )  # fmt: skip
    assert json.loads(message.content[0].text)["kind"] in ("cat", "dog")  # type: ignore[union-attr]
    bad: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "animal"}}}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="seed", messages=HI, response_format=bad)


def test_vectors_and_texts(client: openai.OpenAI) -> None:
    rows = client.embeddings.create(model="seed", input=["a cat", "a dog"]).data
    assert all(abs(math.hypot(*row.embedding) - 1) < 1e-3 for row in rows)
    assert rows[0].embedding != rows[1].embedding
    asked: Any = {"model": "seed", "prompt": "Once upon", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked, extra_body={"raw": True}, logprobs=2).choices[0]
    assert whole.logprobs is not None
    assert "".join(whole.logprobs.tokens or []) == whole.text
    pieces = list(client.completions.create(**asked, extra_body={"raw": True}, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == whole.text
    several = client.completions.create(**{**asked, "temperature": 1}, n=4, seed=1).choices
    assert len({choice.text for choice in several}) > 1


def test_what_it_cannot_do(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nobody' not found"):
        client.chat.completions.create(model="nobody", messages=HI)
    with pytest.raises(openai.BadRequestError, match="invalid model name"):
        client.chat.completions.create(model="../../etc/passwd", messages=HI)
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="seed", prompt=[2**30])


def test_leaving_stops_it(client: openai.OpenAI, server: Served) -> None:
    asked: Any = {"model": "seed", "messages": HI, "max_tokens": 100_000}
    stream = client.chat.completions.create(**asked, stream=True)
    for _ in range(4):
        next(stream)
    stream.close()
    assert until(lambda: server.metric("num_requests_running") == 0)
