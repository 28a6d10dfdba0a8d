"""Go's chat templates carried over to Jinja: the same texts as Go's own renderer writes, and named
errors in bounded time for what is none.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from h2q.core.asks import Ask
from h2q.core.errors import TextError
from h2q.runtime.prompts import Prompter
from h2q.sources import Source
from h2q.text.go_template import go_to_jinja, is_go
from h2q.text.template import ChatTemplate
from h2q.text.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden" / "go_templates"
CASES: dict[str, Any] = json.loads((GOLDEN / "cases.json").read_text())
TALK = [{"role": "user", "content": "Hi"}]


def rendered(template: str, talk: dict[str, Any]) -> str:
    names = {"enable_thinking": talk["think"]} if "think" in talk else {}
    made = ChatTemplate(go_to_jinja(template))
    return made.render(talk["messages"], talk.get("tools"), **names)


@pytest.mark.parametrize("name", CASES["templates"])
def test_the_text_is_what_go_writes(name: str) -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())[name]
    template = CASES["templates"][name]
    assert is_go(template) or "{%" in template
    for talk, conversation in CASES["conversations"].items():
        assert rendered(template, conversation) == expected[talk], talk


def test_the_reference_is_still_what_go_writes() -> None:
    if shutil.which("go") is None:
        pytest.skip("there is no Go here to render the reference with")
    told = subprocess.run(
        ["go", "run", str(GOLDEN / "render.go")],
        input=(GOLDEN / "cases.json").read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout) == json.loads((GOLDEN / "expected.json").read_text())


def test_the_first_token_stands_before_all_and_only_once() -> None:
    for template in ("{{ .Prompt }}", "<s>{{ .Prompt }}", "<s>{{ range .Messages }}Hi{{ end }}"):
        assert ChatTemplate(go_to_jinja(template, "<s>")).render(TALK) == "<s>Hi"


@pytest.mark.parametrize(
    ("text", "go"),
    [
        ("{{ .Prompt }}", True),
        ("{{- range $i, $_ := .Messages }}x{{ end }}", True),
        ("{{ if .System }}x{{ end }}", True),
        ("{{ json .Tools }}", True),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", False),
        ("{{ bos_token }}{{ messages[0]['content'] }}", False),
        ("{{ messages }}", False),
        ("{{ not_a_word }}{{ index }}", False),
        ("plain", False),
        ("", False),
    ],
)
def test_the_two_languages_are_told_apart(text: str, go: bool) -> None:
    assert is_go(text) is go


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ if .System }}", "no {{ end }}"),
        ("{{ .System", "not closed"),
        ("{{ }}", "empty"),
        ("{{ end }}", "unexpected"),
        ("{{ else }}", "unexpected"),
        ("{{ if }}x{{ end }}", "missing"),
        ("{{ .A ) }}", "not closed"),
        ("{{ ( .A }}", "parenthesis"),
        ("{{ $x }}", "undefined variable"),
        ("{{ $x = 1 }}", "undefined variable"),
        ("{{ $x, }}", "variable"),
        ("{{ break }}", "outside of a range"),
        ('{{ range .Messages }}{{ define "a" }}{{ break }}{{ end }}{{ end }}', "outside"),
        ('{{ template "none" . }}', "no template"),
        ('{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}', "each other"),
        ('{{ "a\\q" }}', "escape"),
        ('{{ "\\ud800" }}', "escape"),
        ('{{ "open }}', "unexpected"),
        ("{{/* x */ .A }}", "comment"),
        ('{{ system "rm" }}', "function system"),
        ("{{ .Tools.ToTypeScriptType }}", "ToTypeScriptType"),
        ("{{ call .A }}", "function call"),
        ("{{ . }}", "whole data"),
        ("{{ $ }}", "whole data"),
        ("{{ printf .A }}", "printf"),
        ('{{ printf "%x" 1 }}', "printf"),
        ('{{ printf "a" 1 }}', "printf"),
        ("{{ eq 1 }}", "arguments"),
        ("{{ .A | .B }}", "pipe into a value"),
        ("{{ ü ^ }}", "unexpected"),
        ("\n\n{{ $x }}", "line 3"),
    ],
)
def test_what_is_no_template_is_said(text: str, said: str) -> None:
    with pytest.raises(TextError) as caught:
        go_to_jinja(text)
    assert said in str(caught.value)
    assert "template" in caught.value.where


def doubling(count: int) -> str:
    parts = ['{{ define "t0" }}xxxxxxxxxxxxxxxx{{ end }}']
    for i in range(1, count):
        call = f'{{{{ template "t{i - 1}" . }}}}'
        parts.append(f'{{{{ define "t{i}" }}}}{call}{call}{{{{ end }}}}')
    return "".join(parts) + f'{{{{ template "t{count - 1}" . }}}}'


HOSTILE = {
    "deep blocks": "{{ if .A }}" * 100_000,
    "deep parentheses": "{{ " + "(" * 100_000 + "1",
    "deep else if": "{{ if .A }}" + "{{ else if .A }}" * 10_000 + "{{ end }}",
    "doubling": doubling(19),
    "long chain": "{{ " + ".A" * 80_000 + " }}",
    "many words": "{{ print " + "1 " * 100_000 + "}}",
    "large": "x" * 300_000,
    "open comment": "{{/*" * 60_000,
    "open actions": "{{" * 120_000,
    "blanks": "{{ " + " " * 250_000,
    "blanks before a trim": ("{{ .A" + " " * 1000) * 200,
    "quotes": '{{ "' + '\\"' * 120_000,
    "a loop in loops": "{{ range .Messages }}" * 50 + "x" + "{{ end }}" * 50,
    "controls": "".join(map(chr, range(32))) + "{{ .Prompt }}",
    "surrogates": "\ud800{{ .Prompt }}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_templates_end_in_errors_or_in_text(kind: str) -> None:
    talk = [dict(TALK[0]) for _ in range(4)]
    for index, turn in enumerate(talk):
        turn["role"] = ("user", "assistant")[index % 2]
    try:
        text = ChatTemplate(go_to_jinja(HOSTILE[kind])).render(talk)
    except TextError:
        return
    assert len(text) < 1 << 22


def test_a_model_is_asked_in_the_words_of_a_go_template(seed_source: Source) -> None:
    tokenizer = Tokenizer.from_json(seed_source.tokenizer_json())
    prompter = Prompter(tokenizer, seed_source.spec, lambda: "{{ .System }}/{{ .Prompt }}")
    prompt = prompter.prompt(Ask(prompt="Once", system="Be brief."))
    assert prompt.tokens == tuple(tokenizer.encode("Be brief./Once"))
    with pytest.raises(TextError, match="line 1"):
        prompter.prompt(Ask(prompt="Once", template="{{ if .System }}"))
