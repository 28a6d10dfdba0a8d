"""Clients as their authors ship them, against the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import ollama
import pytest

from h2q.bench.scripted import WORDS
from h2q.core.events import Part
from scripted_server import Running, running

TEXT = "".join(WORDS)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[ollama.Client]:
    found = ollama.Client(host=server.address)
    yield found
    found._client.close()


def test_texts(client: ollama.Client) -> None:
    assert client.generate("scripted", "Tell").response == TEXT
    pieces = list(client.generate("scripted", "Tell", stream=True))
    assert "".join(piece.response for piece in pieces) == TEXT
    assert pieces[-1].done_reason == "stop"
    assert pieces[-1].eval_count == len(WORDS)
    turn = [{"role": "user", "content": "Hi"}]
    assert client.chat("scripted", turn).message.content == TEXT
    found = client.chat("scripted", turn, stream=True, options={"num_predict": 2}, format="json")
    assert "".join(piece.message.content or "" for piece in found) == "Once upon"


def test_letters_that_some_take_for_the_end_of_a_line(
    client: ollama.Client, server: Running
) -> None:
    script, words = server.house.worker.script, ("a\u2028b", "\u0085c", "\u2029", "\r\n\U0001f40b")
    script.words, script.tokens = words, len(words)
    pieces = [piece.response for piece in client.generate("scripted", "Tell", stream=True)]
    script.words, script.tokens = WORDS, len(WORDS)
    assert pieces == [*words, ""]


def test_thinking_and_tools(client: ollama.Client, server: Running) -> None:
    def weather(city: str) -> str:
        """The weather.

        Args:
            city: Where.
        """
        return city

    script = server.house.worker.script
    script.parts = (Part("reasoning", "hm"), Part("tool_call", '{"city":"Oslo"}', "weather"))
    turn = [ollama.Message(role="user", content="Rain?")]
    answer = client.chat("scripted", turn, tools=[weather], think="high")
    script.parts = ()
    assert answer.message.thinking == "hm"
    assert answer.message.tool_calls is not None
    assert answer.message.tool_calls[0].function.arguments == {"city": "Oslo"}
    result = ollama.Message(role="tool", content="yes", tool_name="weather")
    client.chat("scripted", [*turn, answer.message, result], tools=[weather])
    ask = server.house.worker.asks[-1]
    assert ask.tools[0]["function"]["name"] == "weather"
    assert ask.messages is not None
    assert ask.messages[1].calls[0].arguments == '{"city": "Oslo"}'
    assert ask.messages[2].name == "weather"


def test_models(client: ollama.Client, server: Running) -> None:
    assert [model.model for model in client.list().models] == ["scripted:latest"]
    shown = client.show("scripted")
    assert shown.details is not None
    assert shown.details.family == "llama"
    assert shown.capabilities is not None
    assert "tools" in shown.capabilities
    assert client.copy("scripted", "again").status == "success"
    assert client.delete("again").status == "success"
    assert client.pull("fetched").status == "success"
    steps = [step.status for step in client.pull("fetched", stream=True)]
    assert steps[-1] == "success"
    assert client.create("made", from_="scripted", system="s").status == "success"
    client.delete("made")
    client.delete("fetched")
    client.generate("scripted", keep_alive=-1)
    assert [model.model for model in client.ps().models] == ["scripted:latest"]
    assert client.generate("scripted", keep_alive=0).done_reason == "unload"
    assert len(client.embed("scripted", ["a", "b"]).embeddings) == 2
    assert client.embeddings("scripted", "a").embedding == [0.5] * 4


def test_errors(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nobody' not found") as caught:
        client.generate("nobody", "x")
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="cannot be pushed"):
        client.push("scripted")


def test_the_asynchronous_client(server: Running) -> None:
    async def work() -> str:
        client = ollama.AsyncClient(host=server.address)
        text = ""
        async for piece in await client.generate("scripted", "Tell", stream=True):
            text += piece.response
        await client._client.aclose()
        return text

    assert asyncio.run(work()) == TEXT
