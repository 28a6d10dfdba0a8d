"""Chat templates in the sandbox: what they may say, and that no bomb goes off."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import pytest

from chat_templates import CONVERSATION, TEMPLATES, TOOLS
from h2q.core.errors import TextError
from h2q.text import ChatTemplate
from h2q.text.bounds import Steps, Weights

EACH = "{% for i in range(100000) %}"
BIG = "{% set x = 'a' * 1000000 %}" + EACH
MANY = "{% set x = range(100000)|list %}" + EACH
GROW = "{% set n = namespace(x=START) %}{% for i in range(60) %}{% set n.x = STEP %}{% endfor %}"


def growing(start: str, step: str) -> str:
    return GROW.replace("START", start).replace("STEP", step) + "{{ n.x }}"


def render(text: str, **names: Any) -> str:
    return ChatTemplate(text, datetime(2026, 3, 4)).render(
        [{"role": "user", "content": "hi"}], **names
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{{ bos }}{% for m in messages %}\n{{ m.role + ':' + m['content'] }}\n{% endfor %}",
            "<s>user:hi\n",
        ),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "hi"}]'),
        ("{{ {'a': 'ü<'} | tojson(indent=2) }}", '{\n  "a": "ü<"\n}'),
        ("{{ strftime_now('%d %b %Y') }}", "04 Mar 2026"),
        (
            "{% for i in range(9) %}{% if i == 2 %}{% continue %}"
            "{% elif i > 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "013",
        ),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m(1) ~ m('x') }}", "[1][x]"),
        (
            "{% set n = namespace(a=1) %}{% for i in [1, 2] %}"
            "{% set n.a = n.a + i %}{% endfor %}{{ n.a }}",
            "4",
        ),
        ("{{ messages | map(attribute='role') | join(', ') }}", "user"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        (
            "{{ '-'.join(['a', 'b']) }}"
            "{{ 'aba'.replace('a', 'c', 1) }}{{ 'x' | replace('x', 'y') }}",
            "a-bcbay",
        ),
        (
            "{{ 'a\nb' | indent(2) }}{{ ['a'] * 2 }}{{ 'ab' * 2 }}{{ 7 % 4 }}{{ 2 ** 5 }}",
            "a\n  b['a', 'a']abab332",
        ),
        (
            "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}"
            "{{ {'b': 2} | items | list }}",
            "a1[('b', 2)]",
        ),
        (
            "{% for m in messages %}{{ loop.index }}{{ loop.last }}"
            "{{ loop.previtem is defined }}{% endfor %}",
            "1TrueFalse",
        ),
        (
            "{{ none_such is defined }}{{ none_such | default('d') }}{{ tools is none }}",
            "FalsedTrue",
        ),
        ("{% for x in [[1, []]] recursive %}{{ x[0] }}{{ loop(x[1]) }}{% endfor %}", "1"),
        (
            "{{ messages[::-1][0]['content'][1:] | upper | trim }}{{ add_generation_prompt }}",
            "ITrue",
        ),
    ],
)
def test_what_templates_say(text: str, expected: str) -> None:
    assert render(text, bos="<s>") == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_dialects_render(name: str) -> None:
    text = ChatTemplate(TEMPLATES[name]).render(
        CONVERSATION, TOOLS, bos_token="<s>", eos_token="</s>"
    )
    assert "What is the weather?" in text
    assert "get_weather" in text


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        BIG + "{% set y = x|upper %}{% endfor %}",
        BIG + "{% if 'b' in x %}{% endif %}{% endfor %}",
        BIG + "{% set y = x.count('b') %}{% endfor %}",
        BIG + "{% set y = x[1:] %}{% endfor %}",
        BIG + "{% set y = x ~ 1 %}{% endfor %}",
        BIG + "{{ x }}{% endfor %}",
        BIG + "{% set y %}{{ x }}{% endset %}{% endfor %}",
        MANY + "{% set y = x|sum %}{% endfor %}",
        MANY + "{% set y = x == x[:] %}{% endfor %}",
        MANY + "{% if x is eq(x[:]) %}{% endif %}{% endfor %}",
        "{% set y %}" + EACH + "x" * 200_000 + "{% endfor %}{% endset %}",
        growing("'a'", "n.x ~ n.x"),
        growing("'a'", "n.x + n.x"),
        growing("'a'", "n.x * 9"),
        growing("'a'", "n.x.replace('a', 'aa')"),
        growing("'a'", "[n.x, n.x] | join"),
        growing("'a'", "n.x.join(['a', 'b', 'c'])"),
        growing("'a'", "('.\n' ~ n.x) | indent(n.x)"),
        growing("[1]", "[n.x, n.x]"),
        growing("[1]", "(n.x, n.x)"),
        growing("[1]", "n.x + n.x"),
        growing("{}", "dict(a=n.x, b=n.x)"),
        growing("{}", "{'a': n.x, 'b': n.x}"),
        growing("2", "n.x * n.x"),
        "{{ 'a' * 10 ** 10 }}",
        "{{ [messages] * 10 ** 10 }}",
        "{{ 10 ** 10 ** 10 }}{{ 2 ** 100000000 }}",
        "{{ 10.0 ** (10 ** 10) }}",
        "{{ range(10 ** 12) | list }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ (1).to_bytes(10 ** 9) }}",
        "{{ strftime_now('%1000000000d') }}",
        "{{ strftime_now('x' * 1000) }}",
        "{{ messages | tojson(indent=10 ** 9) }}",
        "{{ ('\\n' * 500000) | indent(1000) }}",
        "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{% for i in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
        "{{ " + "(" * 250 + "1" + ")" * 250 + " }}",
        "{{ " + "-" * 5000 + "1 }}",
        "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
        "{{ 1" + "+1" * 20_000 + " }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(a=1) }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}{{ raise_exception('no') }}",
        "{% for m in messages %}{{ loop.__init__.__func__ }}{% endfor %}",
        "{{ lipsum() }}",
        "{% include 'x' %}",
        "{% import 'os' as o %}",
        "{{ 1 / 0 }}",
        "{% for %}",
        "{{ a.b.c }}",
        "x" * 300_000,
    ],
)
def test_attacks_end_in_one_named_error(text: str) -> None:
    before = sys.gettrace()
    with pytest.raises(TextError) as caught:
        render(text)
    assert sys.gettrace() is before
    assert len(str(caught.value)) < 400


def test_attributes_of_objects_stay_hidden() -> None:
    for text in (
        "{{ ''|attr('__class__') }}",
        "{{ messages | map(attribute='__class__') | list }}",
    ):
        assert "class '" not in render(text)


def test_a_refusal_is_told() -> None:
    with pytest.raises(TextError, match="refuses this conversation: 'roles must alternate'"):
        render("{{ raise_exception('roles must alternate') }}")


def test_conversations_have_a_size_too() -> None:
    template = ChatTemplate("{{ messages | length }}")
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    for content in ("x" * 5_000_000, deep):
        with pytest.raises(TextError, match="too large"):
            template.render([{"content": content}])


def test_a_long_conversation_is_no_attack() -> None:
    template = ChatTemplate(TEMPLATES["chatml"])
    text = template.render([{"role": "user", "content": "a text of some length " * 20}] * 2000)
    assert text.count("a text") == 40_000


def test_the_same_list_twice_weighs_twice() -> None:
    weights = Weights()
    inner = ["a", "b"]
    assert weights.of([inner, inner, {"k": inner}]) == 1 + 3 + 3 + 1 + 1 + 3
    with pytest.raises(TextError, match="steps"):
        Steps(3).spend(4)
