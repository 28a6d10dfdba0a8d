"""Answers held to a form: the seed model's own words, always JSON that the schema allows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest

from conftest import SEED
from h2q.core.errors import TextError, UsageError
from h2q.engine import Model, Sampler, SamplingOptions, load_original
from h2q.engine.constraint import Constraint, Grammars
from h2q.sources import Source
from h2q.text import Tokenizer

END = 0
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "dög", None]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
LIST = {"type": "array", "items": {"$ref": "#/$defs/n"}, "minItems": 1, "maxItems": 2}
LIST |= {"$defs": {"n": {"anyOf": [{"type": "null"}, {"const": 7}, {"type": "boolean"}]}}}


@pytest.fixture(scope="module")
def model(seed_source: Source) -> Model:
    return load_original(seed_source)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(SEED / "tokenizer.json")


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer.to_json(), [END], tokenizer.vocab_size)


def written(
    model: Model, tokenizer: Tokenizer, form: Constraint, sampler: Sampler, limit: int = 200
) -> str:
    """What the model answers, to its end."""
    cache = model.new_cache()
    tokens, said = tokenizer.encode("Once upon a time"), []
    for _ in range(limit):
        logits = model.forward(np.array([tokens]), cache, last=True)[0, -1]
        token = sampler.step(logits, form.allowed())
        form.accept(token)
        if token == END:
            return tokenizer.decode(said)
        said.append(token)
        tokens = [token]
    raise AssertionError(f"no end: {tokenizer.decode(said)!r}")


@pytest.mark.parametrize("schema", [PERSON, LIST], ids=["object", "list"])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_the_seed_model_writes_what_a_schema_allows(
    model: Model,
    tokenizer: Tokenizer,
    grammars: Grammars,
    schema: dict[str, Any],
    temperature: float,
) -> None:
    for seed in range(1 if temperature == 0 else 3):
        sampler = Sampler.of(SamplingOptions(temperature=temperature, seed=seed, top_p=0.9))
        text = written(model, tokenizer, grammars.schema(schema), sampler)
        jsonschema.validate(json.loads(text), schema)


def test_noise_under_json_mode_is_a_prefix_of_json(
    tokenizer: Tokenizer, grammars: Grammars
) -> None:
    random = np.random.default_rng(1)
    ended = 0
    for seed in range(10):
        form, sampler, said = grammars.json(), Sampler(seed=seed), []
        for _ in range(60):
            logits = random.standard_normal(tokenizer.vocab_size).astype(np.float32)
            logits[END] += 12
            token = sampler.step(logits, form.allowed())
            form.accept(token)
            if token == END:
                assert isinstance(json.loads(tokenizer.decode(said)), dict)
                ended += 1
                break
            said.append(token)
        assert tokenizer.decode(said).lstrip().startswith("{")
    assert ended


def test_regular_expressions_and_grammars(
    model: Model, tokenizer: Tokenizer, grammars: Grammars
) -> None:
    text = written(model, tokenizer, grammars.regex(r"[A-Z][a-z]{2,5}, [0-9]{4}"), Sampler(seed=1))
    assert re.fullmatch(r"[A-Z][a-z]{2,5}, [0-9]{4}", text)
    form = grammars.lark('start: "(" start ")" | "x"')
    for letter in "((x))":
        assert not form.complete
        (token,) = tokenizer.encode(letter, special=False)
        assert form.allowed()[token]
        form.accept(token)
    assert form.complete
    assert np.flatnonzero(form.allowed()).tolist() == [END]
    form.accept(END)
    assert form.finished


def test_a_copy_goes_its_own_way(tokenizer: Tokenizer, grammars: Grammars) -> None:
    form = grammars.regex("ab|cd")
    other = form.copy()
    form.accept(tokenizer.encode("a", special=False)[0])
    assert not form.allowed()[tokenizer.encode("c", special=False)[0]]
    assert other.allowed()[tokenizer.encode("c", special=False)[0]]
    with pytest.raises(UsageError, match=r"does not allow|cannot be followed"):
        form.accept(tokenizer.encode("z", special=False)[0])


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def named(count: int, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": {f"k{i}": schema or {} for i in range(count)}}


def referring(step: Callable[[dict[str, str]], dict[str, Any]]) -> dict[str, Any]:
    rows = {f"d{i}": step({"$ref": f"#/$defs/d{i + 1}"}) for i in range(30)}
    return {"$defs": {**rows, "d30": {"type": "null"}}, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "schema",
    [
        None,
        7,
        "json",
        [],
        {"type": "nope"},
        {"type": {1, 2}},
        {"minimum": float("nan")},
        {"$ref": "#"},
        {"$ref": "http://example.com/x.json"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "integer", "multipleOf": 1_000_003},
        {"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]},
        {"multipleOf": 0},
        {"multipleOf": 1e-300},
        {"multipleOf": "x"},
        {"pattern": "^(?=a)b$"},
        {"pattern": "a" * 2000},
        {"allOf": [{"pattern": f"a{{{i}}}"} for i in range(30)]},
        {"allOf": [{"anyOf": [{"minimum": i}, {"maximum": -i}]} for i in range(40)]},
        {"enum": [str(i) for i in range(10_000)]},
        {"enum": ["x" * 100_000]},
        {"uniqueItems": True, "type": "array"},
        nested(40),
        nested(3000),
        named(5000),
        {"anyOf": [named(300)] * 50},
        referring(lambda ref: {"allOf": [{"anyOf": [ref, {"minimum": 1}]}] * 3, "pattern": "a"}),
    ],
)
def test_schemas_that_explode_are_refused(grammars: Grammars, schema: Any) -> None:
    with pytest.raises(UsageError) as caught:
        grammars.schema(schema)
    assert caught.value.where == "format"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "schema",
    [
        True,
        named(500),
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "pattern": "^.*a.{1000}$"},
        {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 1},
        {"enum": list(range(2000))},
        referring(lambda ref: named(2, ref) | {"required": ["k0", "k1"]}),
        {"type": "object", "x-guidance": {"whitespace_pattern": "(a+)+"}},
    ],
)
def test_large_schemas_that_can_be_followed(grammars: Grammars, schema: Any) -> None:
    assert grammars.schema(schema).allowed().any()


@pytest.mark.parametrize("pattern", ["(", "a" * 5000, "(?<=a)b"])
def test_patterns_that_are_none(grammars: Grammars, pattern: str) -> None:
    with pytest.raises(UsageError):
        grammars.regex(pattern)


@pytest.mark.parametrize("grammar", ["start: (", "begin: A", "x" * 100_000])
def test_grammars_that_are_none(grammars: Grammars, grammar: str) -> None:
    with pytest.raises(UsageError):
        grammars.lark(grammar)


def test_what_grammars_need(tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match="not the text"):
        Grammars("/etc/passwd", [END], 4096)
    with pytest.raises(TextError, match="no token that ends"):
        Grammars(tokenizer.to_json(), [], 4096)
    with pytest.raises(TextError, match="cannot be used"):
        Grammars("{}", [END], 4096)
    assert len(Grammars(tokenizer.to_json(), [END], 5000).json().allowed()) == 5000
