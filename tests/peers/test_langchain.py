"""LangChain's Ollama package against `h2q serve` with the seed's crystal."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from h2q.bench.scripted import Script
from h2q.core.events import Part
from scripted_server import running
from served import Served, served

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own
    ollama: Any = pytest.importorskip("langchain_ollama", reason="langchain-ollama is not there")
pytestmark = pytest.mark.filterwarnings("default")  # the package's own
OPTIONS: Any = {"temperature": 0, "num_predict": 12}


class Animal(BaseModel):
    """An animal."""

    model_config = ConfigDict(extra="forbid")

    legs: int = Field(ge=0, le=9)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Clients that the package leaves open go here, not at some later moment."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home"), seed=seed_path) as found:
        yield found


def test_texts_and_forms(server: Served) -> None:
    chat = ollama.ChatOllama(
        model="seed", base_url=server.address, validate_model_on_init=True, **OPTIONS
    )
    whole = chat.invoke("Once upon a time")
    assert whole.content
    assert whole.usage_metadata["output_tokens"] == 12
    assert "".join(piece.content for piece in chat.stream("Once upon a time")) == whole.content
    longer = ollama.ChatOllama(model="seed", base_url=server.address, num_predict=200)
    formed = longer.with_structured_output(Animal, method="json_schema").invoke("Once")
    assert 0 <= formed.legs <= 9
    text = ollama.OllamaLLM(model="seed", base_url=server.address, **OPTIONS)
    assert text.invoke("Once upon a time")


def test_vectors(server: Served) -> None:
    vectors = ollama.OllamaEmbeddings(model="seed", base_url=server.address)
    first, second = vectors.embed_documents(["a cat", "a dog"])
    assert first != second
    assert vectors.embed_query("a cat") == pytest.approx(first, abs=1e-5)


def test_tools_and_thinking() -> None:
    parts = (Part("reasoning", "hm"), Part("tool_call", '{"legs":4}', "Animal"))
    with running(Script(parts=parts)) as server:
        chat = ollama.ChatOllama(model="scripted", base_url=server.address, reasoning=True)
        answer = chat.bind_tools([Animal]).invoke("A cat?")
        assert answer.tool_calls[0]["args"] == {"legs": 4}
        assert answer.additional_kwargs["reasoning_content"] == "hm"
        tools = server.house.worker.asks[-1].tools
        assert tools[0]["function"]["name"] == "Animal"
