"""The clients of OpenAI and Anthropic, pointed at the module's own `server`."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest

from served import Served


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="x", max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def other(server: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.address, api_key="x", max_retries=0) as found:
        yield found
