"""How model families write reasoning and tool calls, and which of them a model follows.

| dialect | reasoning | a call |
|---|---|---|
| Hermes, Qwen | <think> ... </think> | <tool_call>{"name": ..., "arguments": {...}}</tool_call> |
| Llama 3 | - | <|python_tag|>{"name": ..., "parameters": {...}}, or that object bare |
| Mistral | [THINK] ... [/THINK] | [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...] |
| DeepSeek R1 | <think> ... </think> | - |
| gpt-oss | its channel `analysis` | a message to functions.NAME (see `harmony`) |
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """Tags as they appear in text. `think_*` empty: no reasoning is told apart. `call_close`
    empty: a call ends where its JSON ends. `bare`: a text that begins with an object which names a
    function is a call. others: more tags.
    """

    name: str
    think_open: str = ""
    think_close: str = ""
    call_open: str = ""
    call_close: str = ""
    bare: bool = False
    others: tuple[str, ...] = ()

    @property
    def special_tags(self) -> tuple[str, ...]:
        """Tags of calls, which a tokenizer may keep as special tokens that a decoder leaves out."""
        tags = (self.think_open, self.think_close, self.call_open, self.call_close)
        return tuple(tag for tag in (*tags, *self.others) if tag)


PLAIN = Dialect("plain")
HERMES = Dialect("hermes", "<think>", "</think>", "<tool_call>", "</tool_call>")
LLAMA = Dialect("llama3", call_open="<|python_tag|>", bare=True)
MISTRAL = Dialect("mistral", "[THINK]", "[/THINK]", "[TOOL_CALLS]")
REASONING = Dialect("deepseek-r1", "<think>", "</think>")
HARMONY = Dialect(
    "harmony",
    think_open="<|channel|>analysis<|message|>",
    call_open="<|call|>",
    others=("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|return|>"),
)
DIALECTS = {each.name: each for each in (PLAIN, HERMES, LLAMA, MISTRAL, REASONING, HARMONY)}
# What of a template or a vocabulary tells a dialect, the most telling first.
SIGNS = (
    ("<|channel|>", HARMONY),
    ("[TOOL_CALLS]", MISTRAL),
    ("<tool_call>", HERMES),
    ("<|python_tag|>", LLAMA),
    ("<|start_header_id|>", LLAMA),
    ("<think>", REASONING),
    ("</think>", REASONING),
)


def dialect_of(template: str, tokens: frozenset[str] = frozenset()) -> Dialect:
    """The dialect that a chat template, else the names of added tokens, speak of."""
    for sign, dialect in SIGNS:
        if sign in template:
            return dialect
    for sign, dialect in SIGNS:
        if sign in tokens:
            return dialect
    return PLAIN


def opens_reasoning(prompt: str, dialect: Dialect) -> bool:
    """Whether a prompt ends inside reasoning, as templates that begin it for the model do."""
    if not dialect.think_open:
        return False
    return prompt.rstrip().endswith(dialect.think_open)
