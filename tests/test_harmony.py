"""Answers in channels told apart, however the text is cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from h2q.text import (
    Content,
    Reasoning,
    SplitEvent,
    Tokenizer,
    ToolCall,
    dialect_of,
    opens_reasoning,
)
from h2q.text import harmony as module
from h2q.text.dialects import HARMONY
from h2q.text.harmony import HarmonySplitter
from h2q.text.splitter import joined

THOUGHT = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant"
CALL = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>"
EARLY = " to=functions.f<|channel|>commentary json<|message|>"
PARTS = [THOUGHT, FINAL, NEXT, CALL, EARLY, "<|call|>", "<|return|>", '{"x": 1}', "text", "<|", " "]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=12).map("".join)


def split(
    text: str, cuts: list[int] | None = None, reasoning: bool = False, calls: bool = True
) -> tuple[list[SplitEvent], str]:
    dialect = HARMONY if calls else replace(HARMONY, call_open="")
    splitter = HarmonySplitter(dialect, reasoning)
    borders = sorted({0, len(text), *(at for at in cuts or [] if at < len(text))})
    events = [event for a, b in pairwise(borders) for event in splitter.push(text[a:b])]
    return joined([*events, *splitter.flush()]), splitter.unfinished


CALLED = ToolCall("f", '{"x": 1}')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{THOUGHT}so{NEXT}{FINAL}yes", [Reasoning("so"), Content("yes")]),
        (f"{THOUGHT}so{NEXT}{FINAL}yes<|return|>", [Reasoning("so"), Content("yes")]),
        (f"{FINAL}a < b", [Content("a < b")]),
        ("behind the header", [Content("behind the header")]),
        (f'{THOUGHT}so{NEXT}{CALL}{{"x": 1}}', [Reasoning("so"), CALLED]),
        (f'{CALL}{{"x": 1}}<|call|>', [CALLED]),
        (f'{EARLY}{{"x": 1}}<|call|>', [CALLED]),
        (f'{CALL}{{"x": 1}}<|call|><|start|>assistant{CALL}{{"x": 1}}', [CALLED, CALLED]),
        (f"{CALL}no object<|call|>", [Content("no object")]),
        (f"{CALL}[1]<|call|>", [Content("[1]")]),
        (f"<|channel|>commentary<|message|>first{NEXT}{FINAL}!", [Content("first!")]),
        (f"{THOUGHT}so{NEXT}<|channel|>fi", [Reasoning("so")]),
        ("<|cha", [Content("<|cha")]),
        ("", []),
    ],
)
def test_by_hand(text: str, expected: list[SplitEvent]) -> None:
    assert split(text)[0] == expected
    assert split(text, list(range(len(text))))[0] == expected


def test_what_is_open_at_the_end() -> None:
    assert split(f"{THOUGHT}so")[1] == "reasoning"
    assert split("so", reasoning=True) == ([Reasoning("so")], "reasoning")
    assert split(f'{CALL}{{"x"')[1] == "tool_call"
    assert split(f'{CALL}{{"x": 1}}')[1] == ""
    assert split(CALL) == ([], "tool_call")
    assert split(f'{CALL}{{"x": 1}}', calls=False) == ([Content('{"x": 1}')], "")


@given(TEXTS, st.lists(st.integers(0, 80), max_size=8), st.booleans())
def test_cuts_change_nothing(text: str, cuts: list[int], reasoning: bool) -> None:
    assert split(text, cuts, reasoning) == split(text, [], reasoning)


@given(st.integers(0, 60), st.lists(st.integers(0, 120), max_size=4))
def test_bounds_of_headers_and_calls(length: int, cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_HEADER", 30)
        patch.setattr(module, "MAX_CALL", 20)
        for text in (
            f"<|channel|>{'x' * length}<|message|>a",
            f'<|channel|>c to=f<|message|>{{"{"x" * length}": 1}}<|call|>',
        ):
            assert split(text, cuts) == split(text)
            events = split(text)[0]
            told = "".join(e.text for e in events if isinstance(e, Content))
            assert (
                "x" * length in told or isinstance(events[0], ToolCall) or events == [Content("a")]
            )


def test_the_dialect_is_found() -> None:
    template = "{{ '<|start|>assistant<|channel|>final<|message|>' }}"
    assert dialect_of(template) is HARMONY
    assert dialect_of("", frozenset({"<|channel|>"})) is HARMONY
    assert opens_reasoning(f"<|start|>assistant{THOUGHT}", HARMONY)
    assert not opens_reasoning(f"<|start|>assistant{FINAL}", HARMONY)
    assert {"<|channel|>", "<|message|>", "<|end|>", "<|call|>"} <= set(HARMONY.special_tags)


def test_tokens_that_a_decoder_leaves_out() -> None:
    """The tags are special tokens; they reach the splitter and nobody else."""
    folder = Path(__file__).parents[1] / "src" / "h2q" / "assets" / "seed"
    words = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.add_special_tokens([*HARMONY.special_tags[2:], "<|call|>"])
    tokenizer = Tokenizer.from_json(words.to_str())
    text = f"{THOUGHT}wörk{NEXT}{FINAL}done"
    stream, splitter = tokenizer.stream(HARMONY.special_tags), HarmonySplitter(HARMONY)
    events = [e for t in tokenizer.encode(text) for e in splitter.push(stream.push(t))]
    events += splitter.flush()
    assert joined(events) == [Reasoning("wörk"), Content("done")]
    assert dialect_of("", tokenizer.added_names()) is HARMONY
