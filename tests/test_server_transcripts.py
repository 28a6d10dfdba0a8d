"""The dialects on the wire, byte for byte: whole and streamed answers, and every refusal."""

from __future__ import annotations

import pytest

from scripted_server import Running
from transcripts import FOLDER, Exchange, read

EXCHANGES = [
    pytest.param(exchange, id=f"{path.stem}: {exchange.title}")
    for path in sorted(FOLDER.glob("*.txt"))
    for exchange in read(path)
]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_it_answers_as_written(exchange: Exchange, scripted: Running) -> None:
    assert exchange.ask(scripted) == exchange.answer
