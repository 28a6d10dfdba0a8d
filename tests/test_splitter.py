"""An answer told apart: content, reasoning, calls; the same however the text is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2q.text import (
    DIALECTS,
    Content,
    Dialect,
    Reasoning,
    SplitEvent,
    Splitter,
    ToolCall,
    dialect_of,
    opens_reasoning,
)
from h2q.text import splitter as module
from h2q.text.splitter import joined

CALL = '{"name": "f", "arguments": {"x": "a}\\"{", "y": [1, {"z": 2}]}}'
TOLD = ToolCall("f", '{"x": "a}\\"{", "y": [1, {"z": 2}]}')
PARTS = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    CALL,
]
PARTS += [
    "[THINK]",
    "[/THINK]",
    "<thi",
    "</tool",
    "[",
    "{",
    "}",
    "\n",
    " ",
    "text",
    "<",
    f"[{CALL}, {CALL}]",
]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=12).map("".join)
ALL = st.sampled_from(list(DIALECTS.values()))


def split(
    text: str, dialect: Dialect, cuts: list[int] | None = None, reasoning: bool = False
) -> tuple[list[SplitEvent], str]:
    borders = sorted({0, len(text), *(at for at in cuts or [] if at < len(text))})
    splitter = Splitter(dialect, reasoning)
    events = [event for a, b in pairwise(borders) for event in splitter.push(text[a:b])]
    return joined([*events, *splitter.flush()]), splitter.unfinished


@pytest.mark.parametrize(
    ("dialect", "text", "expected"),
    [
        ("plain", "<think>a</think>{}", [Content("<think>a</think>{}")]),
        ("hermes", "<think>\na\n</think>\n\nb", [Reasoning("a\n"), Content("b")]),
        ("hermes", f"b <tool_call>\n{CALL}\n</tool_call>\n", [Content("b "), TOLD]),
        ("hermes", f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", [TOLD, TOLD]),
        ("hermes", "write <think> so", [Content("write <think> so")]),
        (
            "hermes",
            "<tool_call>no json</tool_call> b",
            [Content("<tool_call>no json</tool_call> b")],
        ),
        ("hermes", f"<tool_call>{CALL}", [TOLD]),
        ("llama3", CALL, [TOLD]),
        ("llama3", f"<|python_tag|>{CALL.replace('arguments', 'parameters')}", [TOLD]),
        ("llama3", ' {"a": 1} b', [Content(' {"a": 1} b')]),
        ("llama3", "see {x}", [Content("see {x}")]),
        ("llama3", "<|python_tag|>print(1)", [Content("<|python_tag|>print(1)")]),
        ("mistral", f"[TOOL_CALLS][{CALL}, {CALL}]", [TOLD, TOLD]),
        ("mistral", f"[TOOL_CALLS] {CALL} more", [TOLD, Content("more")]),
        (
            "mistral",
            f"[THINK]a[/THINK]b [TOOL_CALLS][{CALL}]",
            [Reasoning("a"), Content("b "), TOLD],
        ),
        ("deepseek-r1", "<think>a</think>b<think>", [Reasoning("a"), Content("b<think>")]),
    ],
)
def test_dialects(dialect: str, text: str, expected: list[SplitEvent]) -> None:
    assert split(text, DIALECTS[dialect]) == (expected, "")


@pytest.mark.parametrize(
    ("text", "expected", "unfinished"),
    [
        ("<think>a</thi", [Reasoning("a</thi")], "reasoning"),
        ("<thi", [Content("<thi")], ""),
        ("b<tool_ca", [Content("b<tool_ca")], ""),
        ('<tool_call>{"name": ', [Content('<tool_call>{"name": ')], "tool_call"),
    ],
)
def test_tags_without_end(text: str, expected: list[SplitEvent], unfinished: str) -> None:
    assert split(text, DIALECTS["hermes"]) == (expected, unfinished)


@given(TEXTS, ALL, st.lists(st.integers(0, 200), max_size=30), st.booleans())
def test_any_cutting_gives_the_same_events(
    text: str, dialect: Dialect, cuts: list[int], reasoning: bool
) -> None:
    whole = split(text, dialect, reasoning=reasoning)
    assert split(text, dialect, cuts, reasoning) == whole
    assert split(text, dialect, list(range(len(text))), reasoning) == whole


@given(TEXTS, ALL)
def test_a_call_too_long_is_content_however_it_is_cut(text: str, dialect: Dialect) -> None:
    old, module.MAX_CALL = module.MAX_CALL, 40
    try:
        assert split(text, dialect) == split(text, dialect, list(range(len(text))))
    finally:
        module.MAX_CALL = old


@given(TEXTS, ALL)
def test_no_letter_is_lost_where_no_tag_is(text: str, dialect: Dialect) -> None:
    text = text.translate(dict.fromkeys(map(ord, "<[{"), "("))
    events, _ = split(text, dialect)
    assert events == ([Content(text)] if text else [])


def test_only_a_possible_tag_waits() -> None:
    splitter = Splitter(DIALECTS["hermes"])
    assert splitter.push("a < b <tool") == [Content("a < b ")]
    assert splitter.push("box>") == [Content("<toolbox>")]


def test_memory_is_bounded() -> None:
    splitter = Splitter(DIALECTS["hermes"])
    splitter.push("<tool_call>")
    told = sum(len(e.text) for _ in range(400) for e in splitter.push("x" * 1000))  # type: ignore[union-attr]
    assert told >= 400_000 - module.MAX_CALL
    deep = Splitter(DIALECTS["llama3"])
    events = [*deep.push('{"a":' * 50_000), *deep.flush()]
    assert isinstance(events[0], Content)


@pytest.mark.parametrize(
    "body",
    [
        '{"name": 1, "arguments": {}}',
        '{"name": "", "arguments": {}}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": "{"}',
        '[{"name": "f"}, 3]',
        "[]",
        "3",
    ],
)
def test_what_is_no_call_is_content(body: str) -> None:
    text = f"<tool_call>{body}</tool_call>"
    assert split(text, DIALECTS["hermes"])[0] == [Content(text)]


def test_spellings_of_arguments() -> None:
    for row in (
        {"function": {"name": "f", "arguments": '{"a": "ü"}'}},
        {"name": "f", "parameters": {"a": "ü"}},
    ):
        events, _ = split(json.dumps(row), DIALECTS["llama3"])
        assert events == [ToolCall("f", '{"a": "ü"}')]
    assert split('{"name": "f"}', DIALECTS["llama3"])[0] == [ToolCall("f", "{}")]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{% if tools %}<tool_call>{% endif %}<think>", "hermes"),
        ("[AVAILABLE_TOOLS][TOOL_CALLS]", "mistral"),
        ("<|start_header_id|>", "llama3"),
        ("...<think>\n", "deepseek-r1"),
        ("{{ messages }}", "plain"),
    ],
)
def test_a_template_tells_the_dialect(template: str, name: str) -> None:
    assert dialect_of(template).name == name
    assert dialect_of("", frozenset({"<tool_call>", "a"})).name == "hermes"


def test_a_prompt_may_open_the_reasoning() -> None:
    assert opens_reasoning("...assistant\n<think>\n", DIALECTS["hermes"])
    assert not opens_reasoning("...assistant\n<think>\n</think>\n", DIALECTS["hermes"])
    assert not opens_reasoning("...", DIALECTS["plain"])
    assert split("a</think>b", DIALECTS["hermes"], reasoning=True)[0] == [
        Reasoning("a"),
        Content("b"),
    ]
