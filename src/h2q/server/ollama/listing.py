"""What is installed and what runs: tags, show, ps. None of it wakes a model."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from h2q.core.cards import ModelCard
from h2q.server.ollama.names import card_of
from h2q.server.ollama.shapes import ShowRequest
from h2q.server.ollama.words import dumps, local
from h2q.server.reply import Reply

if TYPE_CHECKING:
    from h2q.server.request import Request

FORMAT = "safetensors"  # what a crystal's files are, of the two formats clients know
COLUMN = 30  # of values in the text of parameters


async def tags(request: Request) -> Reply:
    """Installed models, the newest first."""
    cards = sorted(request.house.models(), key=lambda card: -card.modified)
    return Reply(dumps({"models": [_item(card) for card in cards]}))


async def running(request: Request) -> Reply:
    """Models in memory, the one that stays longest first."""
    found = sorted(request.house.running(), key=lambda model: -(model.expires or math.inf))
    models = [
        {
            "name": model.card.name,
            "model": model.card.name,
            "size": model.resident,
            "digest": model.card.digest,
            "details": details(model.card),
            "expires_at": local(model.expires),
            "size_vram": 0,
            "context_length": model.context_length,
        }
        for model in found
    ]
    return Reply(dumps({"models": models}))


async def show(request: Request) -> Reply:
    """All that is known of a model."""
    given = await request.read(ShowRequest)
    name = given.model or given.name
    card = card_of(request, name)
    document: dict[str, Any] = {
        "license": card.license,
        "modelfile": _modelfile(card),
        "parameters": _parameters(card),
        "template": card.template,
        "system": given.system or card.system,
        "details": details(card),
        "model_info": _info(card),
        "capabilities": list(card.capabilities),
        "modified_at": local(card.modified),
    }
    if card.messages:
        document["messages"] = [{"role": m.role, "content": m.content} for m in card.messages]
    for name in ("license", "parameters", "template", "system"):
        if not document[name]:
            del document[name]
    return Reply(dumps(document))


def details(card: ModelCard) -> dict[str, Any]:
    """What a list says of a model's inside."""
    return {
        "parent_model": "",
        "format": FORMAT,
        "family": card.family,
        "families": [card.family],
        "parameter_size": count_words(card.parameters),
        "quantization_level": card.bits,
        "context_length": card.context_length,
        "embedding_length": card.embedding_length,
    }


def count_words(count: int) -> str:
    """A count of parameters as people say it: 260.03K, 7.6B."""
    for size, unit, digits in ((1e12, "T", 1), (1e9, "B", 1), (1e6, "M", 2), (1e3, "K", 2)):
        if count >= size:
            return f"{count / size:.{digits}f}{unit}"
    return str(count)


def _item(card: ModelCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "model": card.name,
        "modified_at": local(card.modified),
        "size": card.size,
        "digest": card.digest,
        "details": details(card),
        "capabilities": list(card.capabilities),
    }


def _rows(card: ModelCard) -> list[tuple[str, str]]:
    rows = list[tuple[str, str]]()
    for name, value in card.options:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            rows.append((name, json.dumps(one) if isinstance(one, (str, bool)) else f"{one}"))
    return rows


def _parameters(card: ModelCard) -> str:
    return "\n".join(f"{name:<{COLUMN}} {value}" for name, value in _rows(card))


def _modelfile(card: ModelCard) -> str:
    lines = [f"# Made by h2q at {time.strftime('%Y-%m-%d', time.gmtime(card.modified))}"]
    lines.append(f"FROM {card.name}")
    if card.template:
        lines.append(f'TEMPLATE """{card.template}"""')
    if card.system:
        lines.append(f'SYSTEM """{card.system}"""')
    lines += [f"PARAMETER {name} {value}" for name, value in _rows(card)]
    if card.license:
        lines.append(f'LICENSE """{card.license}"""')
    lines += [f'MESSAGE {message.role} """{message.content}"""' for message in card.messages]
    return "\n".join(lines) + "\n"


def _info(card: ModelCard) -> dict[str, Any]:
    family = card.family
    info: dict[str, Any] = {
        "general.architecture": family,
        "general.parameter_count": card.parameters,
        f"{family}.context_length": card.context_length,
        f"{family}.embedding_length": card.embedding_length,
        "h2q.planes": card.bits,
    }
    if card.source:
        info["h2q.source"] = card.source
    return info
