"""Modelfiles: what is read, what is refused, and that writing and reading agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h2q.core.errors import UsageError
from h2q.orchestrator.house import Recipe
from h2q.orchestrator.modelfile import DROPPED, parse_modelfile, write_modelfile
from h2q.orchestrator.parameters import NUMBERS, WHOLE, checked_parameters

WHOLE_FILE = '''# how a pirate talks
from llama3.2:1b
PARAMETER temperature 0.5
parameter num_ctx 4096
PARAMETER stop "<|end|>"
PARAMETER stop  </s>
PARAMETER use_mmap false
PARAMETER mirostat 1
SYSTEM """
You are a pirate. Say "arr".
"""
TEMPLATE """{{ .System }} {{ .Prompt }}"""
MESSAGE user Where is the gold?
MESSAGE assistant "In the
chest."
LICENSE MIT
LICENSE """Apache
2.0"""
REQUIRES 0.14.0
'''


def test_every_instruction_is_read() -> None:
    recipe = parse_modelfile(WHOLE_FILE)
    assert recipe == Recipe(
        base="llama3.2:1b",
        template="{{ .System }} {{ .Prompt }}",
        system='\nYou are a pirate. Say "arr".\n',
        parameters=(
            ("temperature", 0.5),
            ("num_ctx", 4096),
            ("stop", ("<|end|>", "</s>")),
            ("use_mmap", False),
        ),
        messages=(("user", "Where is the gold?"), ("assistant", "In the\nchest.")),
        license=("MIT", "Apache\n2.0"),
        options={"requires": "0.14.0"},
    )
    assert parse_modelfile(write_modelfile(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("bare  words  ", "bare  words"),
        ('"quoted "', "quoted "),
        ('"a" b', None),
        ('"a" b"', 'a" b'),
        ('"""a"""', "a"),
        ('"""a\n"b"\n"""', 'a\n"b"\n'),
        ('""', ""),
        ('""""""', ""),
        ("'single'", "'single'"),
        ('"""open', None),
        ("a\\nb", "a\\nb"),
        ("a\x00b\x1b", "ab"),
        ("tab\there", "tab\there"),
        ("# no comment", "# no comment"),
    ],
)
def test_values_as_ollama_reads_them(text: str, value: str | None) -> None:
    file = f"FROM x\nSYSTEM {text}\n"
    if value is None:
        with pytest.raises(UsageError, match="quotes are not closed"):
            parse_modelfile(file)
    else:
        assert parse_modelfile(file).system == value


def test_other_encodings_and_line_ends() -> None:
    text = "FROM x\r\nSYSTEM é\r\n"
    for data in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        assert parse_modelfile(data).system == "é"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no FROM"),
        ("SYSTEM x", "no FROM"),
        ("FROM", "no value"),
        ("FROM a\nFROM b", "one FROM"),
        ("FROM a\nADAPTER x", "adapters"),
        ("FROM a\n\n\nBOGUS x", "command must be one of"),
        ("FROM a\nPARAMETER bogus 1", "unknown parameter 'bogus'"),
        ("FROM a\nPARAMETER num_ctx many", "whole number"),
        ("FROM a\nPARAMETER num_ctx 1e999", "whole number"),
        ("FROM a\nPARAMETER num_ctx [[[[", "whole number"),
        ("FROM a\nPARAMETER temperature nan", "number"),
        ("FROM a\nPARAMETER temperature", "no value"),
        ("FROM a\nPARAMETER use_mmap maybe", "true or false"),
        ("FROM a\nMESSAGE nobody hi", "message role"),
        ("FROM a\nREQUIRES soon", "semver"),
        ("FROM a\nSYSTEM " + "x" * (5 << 20), "exceeds"),
        ("FROM a\n" + "LICENSE x\n" * 10_001, "more than"),
    ],
)
def test_what_is_wrong_is_said(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_modelfile(text)


def test_the_line_is_named() -> None:
    with pytest.raises(UsageError, match=r"\[line 4\]"):
        parse_modelfile("FROM a\r\n\r\n# x\r\nBOGUS y")


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        parse_modelfile(b"FROM \xff\xfe\xfd")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(
    lambda text: text.translate(DROPPED)
)
lists = st.lists(texts.filter(bool), min_size=1, max_size=3).map(tuple)
parameters = st.dictionaries(
    st.sampled_from(sorted(WHOLE)), st.integers(-(1 << 40), 1 << 40), max_size=3
).flatmap(
    lambda whole: st.dictionaries(
        st.sampled_from(sorted(NUMBERS)), st.floats(-1e6, 1e6), max_size=3
    ).flatmap(
        lambda numbers: st.dictionaries(st.just("stop"), lists, max_size=1).map(
            lambda stop: tuple({**whole, **numbers, **stop}.items())
        )
    )
)


@given(
    st.builds(
        Recipe,
        base=texts.filter(bool),
        template=st.none() | texts,
        system=st.none() | texts,
        parameters=parameters,
        messages=st.lists(
            st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), max_size=3
        ).map(tuple),
        license=st.lists(texts, max_size=2).map(tuple),
    )
)
def test_what_is_written_is_read_back(recipe: Recipe) -> None:
    try:
        text = write_modelfile(recipe)
    except UsageError:  # quotes that no Modelfile can hold: said, not written wrongly
        return
    assert parse_modelfile(text) == recipe


@given(st.text(max_size=300) | st.text('FROM SYSTEM"\n\r\t#{}', max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        recipe = parse_modelfile(text)
    except UsageError:
        return
    assert recipe.base


def test_parameters_of_a_request() -> None:
    given = {"temperature": 1, "num_ctx": 2048.7, "stop": "x", "top_k": None, "mirostat": 2}
    assert checked_parameters(given) == (("temperature", 1.0), ("num_ctx", 2048), ("stop", ("x",)))
    for bad in (
        {"num_ctx": "4"},
        {"num_ctx": float("inf")},
        {"num_ctx": 1e300},
        {"temperature": True},
        {"temperature": float("nan")},
        {"stop": [1]},
        {"stop": ["x"] * 65},
        {"bogus": 1},
    ):
        with pytest.raises(UsageError):
            checked_parameters(bad)
