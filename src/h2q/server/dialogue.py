"""What the dialects of OpenAI and Anthropic share on the way from a body to an ask."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from h2q.core.asks import Ask, Effort, Form, Message
from h2q.core.errors import MissingModelError, SourceError, UsageError
from h2q.core.sampling_options import MAX_COUNT, MAX_SEED, SamplingOptions
from h2q.server.forced_call import Tool, call_form
from h2q.server.refusal import Refusal

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard
    from h2q.server.request import Request

MODEL_OPTIONS = ("top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", "stop")
ALMOST_NOTHING = 1e-6  # a share of 0 keeps the likeliest token alone
EFFORTS: dict[str, bool | Effort] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}


@dataclass(frozen=True)
class Choice:
    """Tools that the model is shown, and whether it must call one of `callable`."""

    tools: tuple[Tool, ...] = ()
    callable: tuple[Tool, ...] = ()
    forced: bool = False


def card_of(request: Request, name: str) -> ModelCard:
    """The installed model of that name. Raises Refusal: 400 for no name, 404 for an unknown one."""
    if not name:
        raise Refusal(400, "model is required", param="model")
    try:
        return request.house.card(name)
    except MissingModelError:
        raise Refusal(404, f"model '{name[:400]}' not found", param="model") from None
    except (SourceError, UsageError):
        raise Refusal(400, "invalid model name", param="model") from None


def able(card: ModelCard, name: str, capability: str, what: str) -> None:
    """Raises Refusal (400) when the model cannot do that."""
    if capability not in card.capabilities:
        raise Refusal(400, f'"{name}" does not support {what}', param="model")


def conversation(
    card: ModelCard,
    messages: tuple[Message, ...],
    choice: Choice,
    sampling: SamplingOptions,
    *,
    think: bool | Effort | None,
    form: Form | None = None,
) -> Ask:
    """An ask to answer messages. The model's own beginning stands before them, unless they begin
    with a system's turn.
    """
    begins = messages[0].role == "system"
    return Ask(
        messages=messages if begins else (*card.messages, *messages),
        system=None if begins else card.system or None,
        tools=choice.tools,
        think=think,
        sampling=sampling,
        form=call_form(choice.callable) if choice.forced else form,
    )


def chosen(tools: Sequence[Tool], wanted: str, name: str = "") -> Choice:
    """Tools by what the client wants of them: "auto", "none", "required", or "named" with a name.
    Raises Refusal (400).
    """
    shown = tuple(tools)
    if wanted == "none":
        return Choice()
    if wanted == "auto":
        return Choice(shown)
    if not shown:
        raise Refusal(400, "tool_choice asks for a call, but there are no tools", param="tools")
    if wanted == "required":
        return Choice(shown, shown, True)
    named = tuple(tool for tool in shown if tool["function"]["name"] == name)
    if not named:
        words = f"tool_choice names {name[:80]!r}, which is not among the tools"
        raise Refusal(400, words, param="tool_choice")
    return Choice(shown, named[:1], True)


def function_tool(function: Mapping[str, Any], place: str) -> Tool:
    """A function as models' templates read it. Raises Refusal (400) when it has no name or its
    parameters are no schema.
    """
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not name:
        raise Refusal(400, f"{place}: a function needs a name", param=place)
    if parameters is not None and not isinstance(parameters, dict):
        raise Refusal(400, f"{place}: parameters must be a JSON Schema object", param=place)
    described: dict[str, Any] = {"name": name}
    if isinstance(function.get("description"), str):
        described["description"] = function["description"]
    described["parameters"] = parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": described}


def sampling_of(card: ModelCard, given: Mapping[str, Any]) -> SamplingOptions:
    """Options of a request, None where it has none, over those the model asks for; temperature and
    top_p are 1 unless given. Raises UsageError naming the option.
    """
    values: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    values |= {name: value for name, value in card.options if name in MODEL_OPTIONS}
    values |= {name: value for name, value in given.items() if value is not None}
    if (most := values.get("max_tokens")) is not None:
        values["max_tokens"] = min(most, MAX_COUNT) if most > 0 else None
    if (seed := values.get("seed")) is not None:
        values["seed"] = None if seed == -1 else seed & MAX_SEED
    if values["top_p"] == 0:
        values["top_p"] = ALMOST_NOTHING
    if isinstance(values.get("stop"), list):
        values["stop"] = tuple(text for text in values["stop"] if text != "")
    elif values.get("stop") == "":
        del values["stop"]
    return SamplingOptions(**values)


def seeds(sampling: SamplingOptions, number: int) -> SamplingOptions:
    """The same for another answer to the same request: another one, where a seed is given."""
    from dataclasses import replace

    if sampling.seed is None or not number:
        return sampling
    return replace(sampling, seed=(sampling.seed + number) & MAX_SEED)


def effort(value: str, place: str) -> bool | Effort:
    """How hard to think. Raises Refusal (400)."""
    if value not in EFFORTS:
        words = f"invalid reasoning value: {value[:80]!r} (must be one of {', '.join(EFFORTS)})"
        raise Refusal(400, words, param=place)
    return EFFORTS[value]


def schema_form(schema: Any, place: str) -> Form:
    """The form of a JSON Schema. Raises Refusal (400)."""
    if not isinstance(schema, dict):
        raise Refusal(400, f"{place} must be a JSON Schema object", param=place)
    return Form("schema", json.dumps(schema, ensure_ascii=False))
