"""Streams side by side: the same tokens as alone, in pages, with shared beginnings, in little
memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h2q.codec.pages import PAGE
from h2q.core.errors import ResourceError, UsageError
from h2q.crystal import Crystal, open_crystal
from h2q.engine import Model, Sampler, load_crystal, load_original
from h2q.engine.constraint import Grammars
from h2q.engine.drafts import Drafter
from h2q.engine.page_pool import PagePool
from h2q.engine.requests import Request, Said
from h2q.engine.sampling import SamplingOptions
from h2q.engine.scheduler import Scheduler
from h2q.sources import Source
from h2q.text import Tokenizer

GREEDY = SamplingOptions(temperature=0)
DRAWN = SamplingOptions(seed=3, top_p=0.9, repeat_penalty=1.2)


@pytest.fixture(scope="module")
def model(seed_path: Path) -> Model:
    return load_crystal(open_crystal(seed_path))


def request(
    prompt: Sequence[int],
    tokens: int = 12,
    sampling: SamplingOptions = GREEDY,
    stop: frozenset[int] = frozenset(),
    keep: int = 0,
) -> Request:
    return Request(tuple(prompt), Sampler.of(sampling, prompt), tokens, stop, keep)


def run(scheduler: Scheduler, requests: Sequence[Request]) -> list[list[Said]]:
    names = [scheduler.add(one) for one in requests]
    heard: dict[int, list[Said]] = {name: [] for name in names}
    while scheduler.busy:
        for said in scheduler.step():
            heard[said.stream].append(said)
    return [heard[name] for name in names]


def words(said: Sequence[Said]) -> list[tuple[int, float]]:
    return [(one.token, one.likelihood.logprob) for one in said if one.likelihood]


def prompts(count: int, longest: int = 150) -> list[list[int]]:
    draw = np.random.default_rng(count)
    return [draw.integers(3, 400, draw.integers(1, longest)).tolist() for _ in range(count)]


def alone(model: Model, one: Request, pages: int = 20) -> list[tuple[int, float]]:
    return words(run(Scheduler(model, PagePool(model.spec, pages)), [one])[0])


def test_a_batch_says_what_each_stream_says_alone(model: Model) -> None:
    texts = prompts(9)
    scheduler = Scheduler(model, PagePool(model.spec, 60), streams=5, rows=40)
    together = run(scheduler, [request(text) for text in texts])
    for text, said in zip(texts, together, strict=True):
        assert words(said) == alone(model, request(text))
        assert said[-1].finish == "length"
        assert [one.index for one in said] == list(range(13))
    assert scheduler.pool.free == 60


def test_seeds_give_the_same_text_whatever_the_neighbours_do(model: Model) -> None:
    drawn = SamplingOptions(seed=7, repeat_penalty=1.1)
    text = prompts(1)[0]
    expected = alone(model, request(text, sampling=drawn))
    others = [request(one, sampling=SamplingOptions(seed=1)) for one in prompts(4)]
    scheduler = Scheduler(model, PagePool(model.spec, 60))
    assert words(run(scheduler, [*others, request(text, sampling=drawn)])[-1]) == expected


def test_pages_agree_with_the_float_cache(seed_source: Source) -> None:
    """Keys and values in float16 change a logit by little, in int8 by not much more."""
    model = load_original(seed_source)
    tokens = np.array(prompts(1, 200)[0] + prompts(2, 200)[0])
    expected = model.forward(tokens[None], model.new_cache(), last=True)[0, -1]
    spread = float(np.std(expected))
    for kind, most in (("f16", 0.002), ("k8v8", 0.05), ("k8v4", 0.4)):
        pool = PagePool(model.spec, 8, kind)
        scheduler = Scheduler(model, pool, rows=64)
        one = run(scheduler, [request(tokens, 1)])[0][0]
        wide = expected.astype(np.float64) - expected.max()
        logprob = wide - np.log(np.exp(wide).sum())
        assert one.likelihood is not None
        assert abs(one.likelihood.logprob - logprob[one.token]) < most * spread


def test_equal_beginnings_are_computed_once(model: Model) -> None:
    start = prompts(1, 200)[0] * 3
    start = start[: 2 * PAGE + 9]
    scheduler = Scheduler(model, PagePool(model.spec, 20))
    first = run(scheduler, [request([*start, 5, 6])])[0]
    again = run(scheduler, [request([*start, 5, 6]), request([*start, 9])])
    assert first[0].prefix == 0
    assert [said[0].prefix for said in again] == [2 * PAGE, 2 * PAGE]
    assert words(again[0]) == words(first)
    assert words(again[1]) == alone(model, request([*start, 9]))
    scheduler.pool.root = b"other planes"
    assert run(scheduler, [request([*start, 5, 6])])[0][0].prefix == 0


def test_streams_that_find_no_page_start_again_and_say_the_same(model: Model) -> None:
    texts = [text[:100] for text in prompts(6)]
    scheduler = Scheduler(model, PagePool(model.spec, 5), streams=6)
    together = run(scheduler, [request(text, 40) for text in texts])
    for text, said in zip(texts, together, strict=True):
        assert words(said) == alone(model, request(text, 40))
    assert scheduler.pool.free == 5


def test_a_stream_is_cancelled_before_the_next_step(model: Model) -> None:
    scheduler = Scheduler(model, PagePool(model.spec, 20))
    first, second = (scheduler.add(request(text, 50)) for text in prompts(2))
    for _ in range(3):
        scheduler.step()
    assert scheduler.cancel(first)
    assert not scheduler.cancel(first)
    assert {said.stream for said in scheduler.step()} == {second}
    assert scheduler.cancel(second)
    assert not scheduler.busy
    assert scheduler.pool.free == 20


def test_a_ring_keeps_its_pages_and_goes_on(model: Model) -> None:
    """Far beyond the context of 512, in four pages and the sinks' own."""
    limit = model.spec.max_position_embeddings
    pool = PagePool(model.spec, 5)
    scheduler = Scheduler(model, pool)
    said = run(scheduler, [request(prompts(3)[0], limit + 200, keep=4)])[0]
    assert len(words(said)) == limit + 200
    assert pool.free == 5
    same = run(scheduler, [request(prompts(3)[0], limit + 200, keep=4)] * 1)[0]
    assert words(same) == words(said)


def test_a_ring_says_the_same_beside_others(model: Model) -> None:
    text = prompts(3)[1]
    expected = alone(model, request(text, 300, keep=3))
    scheduler = Scheduler(model, PagePool(model.spec, 30), rows=32)
    others = [request(one, 60) for one in prompts(5)]
    assert words(run(scheduler, [*others, request(text, 300, keep=3)])[-1]) == expected


def test_a_ring_before_it_is_full_is_no_ring(model: Model) -> None:
    text = prompts(3)[0][:60]
    expected = alone(model, request(text, 100))
    assert alone(model, request(text, 100, keep=3)) == expected


def test_a_full_context_ends_a_stream(model: Model) -> None:
    limit = model.spec.max_position_embeddings
    text = (prompts(1)[0] * limit)[: limit - 3]
    said = run(Scheduler(model, PagePool(model.spec, 20)), [request(text, 50)])[0]
    assert said[-1].finish == "context"
    assert len(words(said)) == 4


@pytest.mark.parametrize("keep", [0, 3])
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_drafts_change_nothing_but_the_number_of_steps(
    model: Model, seed_path: Path, sampling: SamplingOptions, keep: int
) -> None:
    texts = [text[:90] for text in prompts(3)]
    drafter = Drafter(load_crystal(open_crystal(seed_path), 0), ahead=3, least=0.05)
    plain = Scheduler(model, PagePool(model.spec, 30))
    drafting = Scheduler(model, PagePool(model.spec, 30), drafter=drafter)
    requests = [request(text, 130, sampling, keep=keep) for text in texts]
    expected = run(plain, requests)
    found = run(drafting, [request(text, 130, sampling, keep=keep) for text in texts])
    assert [words(said) for said in found] == [words(said) for said in expected]
    assert 0 < drafting.accepted <= drafting.drafted
    assert drafting.pool.free == 30


def test_stop_tokens_are_not_said(model: Model) -> None:
    text = prompts(1)[0]
    expected = alone(model, request(text))
    stop = expected[5][0]
    first = [token for token, _ in expected].index(stop)
    said = run(Scheduler(model, PagePool(model.spec, 20)), [request(text, stop=frozenset({stop}))])
    assert words(said[0]) == expected[:first]
    assert said[0][-1].finish == "stop"


def test_an_answer_is_held_to_its_form(model: Model, seed_path: Path) -> None:
    ends = model.spec.eos_token_ids
    grammars = Grammars(open_crystal(seed_path).tokenizer_path.read_text(), ends, 4096)
    tokenizer = Tokenizer(open_crystal(seed_path).tokenizer_path)
    schema = {
        "type": "object",
        "properties": {"sea": {"enum": ["calm", "wild"]}},
        "required": ["sea"],
    }
    plain, shaped = request(prompts(1)[0], 20), request(prompts(1)[0], 60)
    shaped = replace(shaped, constraint=grammars.schema(schema), stop=frozenset(ends))
    said = run(Scheduler(model, PagePool(model.spec, 20)), [plain, shaped])
    assert words(said[0]) == alone(model, request(prompts(1)[0], 20))
    assert said[1][-1].finish == "stop"
    answer = json.loads(tokenizer.decode([one.token for one in said[1] if one.token >= 0]))
    assert answer["sea"] in ("calm", "wild")


def test_a_stream_that_fails_ends_alone(model: Model) -> None:
    text = prompts(1)[0]
    bad = request(text, sampling=SamplingOptions(logit_bias=((10**6, 1.0),)))
    good = request(text)
    said = run(Scheduler(model, PagePool(model.spec, 20)), [bad, good])
    assert said[0][-1].finish == "error"
    assert isinstance(said[0][-1].error, UsageError)
    assert words(said[1]) == alone(model, request(text))


def test_what_cannot_run_is_refused_when_it_is_added(model: Model, seed_crystal: Crystal) -> None:
    scheduler = Scheduler(model, PagePool(model.spec, 4))
    with pytest.raises(UsageError, match="empty"):
        scheduler.add(request([]))
    with pytest.raises(UsageError, match="outside the vocabulary"):
        scheduler.add(request([10**9]))
    with pytest.raises(UsageError, match="context"):
        scheduler.add(request([5] * (model.spec.max_position_embeddings + 1)))
    with pytest.raises(UsageError, match="ring needs"):
        scheduler.add(request([5], keep=1))
    with pytest.raises(ResourceError, match="pages of 64 positions"):
        scheduler.add(request([5] * 300))
    assert not scheduler.busy
