"""OpenAI's fields as ours: how to sample, which tools, what form, how hard to think."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2q.core.asks import Effort, Form
from h2q.core.sampling_options import MAX_TOP_LOGPROBS, SamplingOptions
from h2q.server.dialogue import (
    Choice,
    able,
    chosen,
    effort,
    function_tool,
    sampling_of,
    schema_form,
)
from h2q.server.forced_call import Tool
from h2q.server.refusal import Refusal

if TYPE_CHECKING:
    from h2q.core.cards import ModelCard
    from h2q.server.openai.shapes import Sampled

MAX_ANSWERS = 16  # to one request


def sampled(card: ModelCard, given: Sampled, most: int | None, top: int | None) -> SamplingOptions:
    """How to sample. `top`: alternatives to report, None for no log-probabilities at all."""
    return sampling_of(
        card,
        {
            "temperature": given.temperature,
            "top_p": given.top_p,
            "top_k": given.top_k,
            "min_p": given.min_p,
            "frequency_penalty": given.frequency_penalty,
            "presence_penalty": given.presence_penalty,
            "seed": given.seed,
            "stop": given.stop,
            "max_tokens": most,
            "logit_bias": _biases(given.logit_bias) or None,
            "top_logprobs": None if top is None else max(1, top),
        },
    )


def _biases(bias: dict[str, Any]) -> dict[int, Any]:
    found = dict[int, Any]()
    for token, value in bias.items():
        if not (token.isascii() and token.isdigit() and len(token) < 20):
            words = f"logit_bias: {token[:40]!r} is not a token id"
            raise Refusal(400, words, param="logit_bias")
        found[int(token)] = value
    return found


def answers(count: int) -> int:
    """How many answers are wanted. Raises Refusal (400) for none or too many."""
    if not 1 <= count <= MAX_ANSWERS:
        raise Refusal(400, f"n must be between 1 and {MAX_ANSWERS}", param="n")
    return count


def alternatives(wanted: bool, top: int | None) -> int | None:
    """How many alternatives to tell, None for no log-probabilities. Raises Refusal (400)."""
    if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
        words = f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}"
        raise Refusal(400, words, param="top_logprobs")
    return (top or 0) if wanted else None


def thinking(
    card: ModelCard, name: str, value: Any, place: str = "reasoning_effort"
) -> bool | Effort | None:
    """Whether to think: models that can do, unless told not to. Raises Refusal (400)."""
    if value is None:
        return True if "thinking" in card.capabilities else None
    if not isinstance(value, str):
        raise Refusal(400, f"{place} must be a string", param=place)
    found = effort(value, place)
    if found:
        able(card, name, "thinking", "thinking")
    return found if "thinking" in card.capabilities else None


def format_of(wanted: dict[str, Any], place: str) -> Form | None:
    """The form that a format asks for. Chat nests a schema, responses do not. Raises Refusal
    (400).
    """
    kind = wanted.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return Form("json")
    if kind != "json_schema":
        words = f"{place}.type must be text, json_object or json_schema"
        raise Refusal(400, words, param=f"{place}.type")
    nested = wanted.get("json_schema", wanted)
    schema = nested.get("schema") if isinstance(nested, dict) else None
    return schema_form(schema, f"{place}.json_schema.schema")


def tools_of(tools: list[dict[str, Any]]) -> list[Tool]:
    """Tools as chat completions nest them. Raises Refusal (400)."""
    found = list[Tool]()
    for number, tool in enumerate(tools):
        function = tool.get("function")
        if tool.get("type", "function") != "function" or not isinstance(function, dict):
            words = "a tool is {type: function, function: {name, description, parameters}}"
            raise Refusal(400, f"tools[{number}]: {words}", param="tools")
        found.append(function_tool(function, f"tools[{number}].function"))
    return found


def choice_of(card: ModelCard, name: str, tools: list[Tool], wanted: Any) -> Choice:
    """Tools by `tool_choice`, a word or an object that names a function. Raises Refusal (400)."""
    if tools:
        able(card, name, "tools", "tools")
    if wanted is None:
        return chosen(tools, "auto")
    if isinstance(wanted, str) and wanted in ("auto", "none", "required"):
        return chosen(tools, wanted)
    if isinstance(wanted, dict):
        nested = wanted.get("function", wanted)
        called = nested.get("name") if isinstance(nested, dict) else None
        if wanted.get("type", "function") == "function" and isinstance(called, str):
            return chosen(tools, "named", called)
        if wanted.get("type") == "allowed_tools":
            return _allowed(tools, wanted)
    raise Refusal(
        400,
        'tool_choice must be "auto", "none", "required", or {type: function, function: {name}}',
        param="tool_choice",
    )


def _allowed(tools: list[Tool], wanted: dict[str, Any]) -> Choice:
    inner = wanted.get("allowed_tools", wanted)
    rows = inner.get("tools") if isinstance(inner, dict) else None
    mode = inner.get("mode", "auto") if isinstance(inner, dict) else None
    if not isinstance(rows, list) or mode not in ("auto", "required"):
        raise Refusal(400, "allowed_tools needs a mode and tools", param="tool_choice")
    nested = [row.get("function", row) if isinstance(row, dict) else {} for row in rows]
    names = {function.get("name") for function in nested if isinstance(function, dict)}
    return chosen([tool for tool in tools if tool["function"]["name"] in names], mode)
