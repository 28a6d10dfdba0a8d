"""A model that answers asks in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from h2q.core.asks import Ask, EmbedAsk, Form, Message
from h2q.core.errors import ResourceError, TextError, UsageError
from h2q.core.events import TokenEvent
from h2q.core.sampling_options import SamplingOptions
from h2q.runtime.service import Service
from h2q.runtime.worker import Control, Order

STORY = "Once upon a time"


@pytest.fixture(scope="module")
def service(seed_path: Path) -> Iterator[Service]:
    made = Service(Order(str(seed_path), streams=3))
    yield made
    made.close()


def greedy(tokens: int = 12, **more: object) -> SamplingOptions:
    return SamplingOptions(temperature=0, max_tokens=tokens, **more)  # type: ignore[arg-type]


def raw(text: str = STORY, tokens: int = 12, **more: object) -> Ask:
    return Ask(prompt=text, raw=True, sampling=greedy(tokens), **more)  # type: ignore[arg-type]


def text_of(events: Sequence[TokenEvent]) -> str:
    return "".join(event.text for event in events)


def test_an_answer_ends_with_what_it_took(service: Service) -> None:
    events = list(service.generate(raw()))
    assert [event.index for event in events] == list(range(13))
    last = events[-1]
    assert (last.finish, last.token) == ("length", -1)
    assert last.usage is not None
    assert last.usage.tokens == 12
    assert last.usage.prompt_tokens == service.count(raw())
    assert 0 <= last.usage.queue + last.usage.prompt <= last.usage.total
    joined = "".join(part.text for event in events for part in event.parts)
    assert joined == text_of(events) != ""


def test_many_answers_say_what_each_says_alone(service: Service) -> None:
    prompts = [STORY, "The dog", "Lily saw", "A big", "One day", "The sun", "Tim was"]
    alone = [text_of(list(service.generate(raw(text)))) for text in prompts]
    going = [service.generate(raw(text)) for text in prompts]
    first = [next(one) for one in going]
    told = [one.text + text_of(list(rest)) for one, rest in zip(first, going, strict=True)]
    assert told == alone


def test_a_stop_text_is_swallowed_and_named(service: Service) -> None:
    whole = text_of(list(service.generate(raw(tokens=40))))
    stop = whole[10:14]
    ask = Ask(prompt=STORY, raw=True, sampling=greedy(40, stop=(stop,)))
    events = list(service.generate(ask))
    assert text_of(events) == whole[: whole.index(stop)]
    assert events[-1].finish == "stop"
    assert events[-1].usage is not None
    assert events[-1].usage.stop == stop


def test_closing_an_answer_frees_its_pages(service: Service) -> None:
    going = service.generate(raw(tokens=300))
    next(going)
    going.close()  # type: ignore[attr-defined]
    list(service.generate(raw(tokens=1)))
    state = service.state()
    assert (state.running, state.waiting, state.cache) == (0, 0, 0)


def test_an_ask_that_cannot_be_answered_hurts_nobody(service: Service) -> None:
    good = service.generate(raw(tokens=30))
    begun = next(good)
    bad = Ask(prompt="x", raw=True, sampling=SamplingOptions(logit_bias=((10**6, 1.0),)))
    with pytest.raises(UsageError, match="logit_bias"):
        list(service.generate(bad))
    with pytest.raises(UsageError):
        list(service.generate(Ask(tokens=(10**6,))))
    with pytest.raises(UsageError):
        list(service.generate(raw(suffix="x")))
    broken = Ask(messages=(Message("user", "x"),), template="{{ raise_exception('no') }}")
    with pytest.raises(TextError):
        list(service.generate(broken))
    assert begun.text + text_of(list(good)) == text_of(list(service.generate(raw(tokens=30))))


def test_the_context_is_a_bound_that_may_shift(service: Service) -> None:
    def ask(shift: bool, tokens: int | None, text: str = STORY, truncate: bool = True) -> Ask:
        sampling = SamplingOptions(temperature=0, max_tokens=tokens)
        return Ask(
            prompt=text, raw=True, sampling=sampling, context=256, shift=shift, truncate=truncate
        )

    events = list(service.generate(ask(False, None)))
    assert events[-1].usage is not None
    if events[-1].finish == "context":  # unless the story ended before
        assert events[-1].usage.prompt_tokens + events[-1].usage.tokens == 257
    long = "One day a dog ran. " * 200
    shifted = list(service.generate(ask(True, 300, long)))
    assert shifted[-1].finish in ("length", "stop")
    assert shifted[-1].usage is not None
    assert shifted[-1].usage.prompt_tokens == 256
    for most, room in ((None, 64), (40, 40), (300, 128), (1, 1)):
        cut = list(service.generate(ask(False, most, long)))[-1]
        assert cut.usage is not None
        assert cut.usage.prompt_tokens == 257 - room
        assert cut.usage.tokens == room or cut.finish == "stop"
    with pytest.raises(UsageError, match="do not fit the context of 256"):
        list(service.generate(ask(False, 5, long, truncate=False)))


def test_the_oldest_turns_go_first(service: Service) -> None:
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "
    turns = [Message("system", "Be kind."), *[Message("user", f"turn {i} " * 9) for i in range(40)]]
    ask = Ask(messages=tuple(turns), template=template, context=128, sampling=greedy(2))
    prompt = service.asking.prompter.prompt(ask, 128)
    text = service.started.tokenizer.decode(prompt.tokens)
    assert len(prompt.tokens) <= 128
    assert "Be kind." in text
    assert "turn 39" in text
    assert "turn 0 " not in text


def test_turns_that_go_leave_room_for_the_answer(service: Service) -> None:
    turns = tuple(Message("user", f"turn {i} " * 9) for i in range(40))
    ask = Ask(messages=turns, template="{% for m in messages %}{{ m.content }}{% endfor %}")
    prompts = service.asking.prompter
    full, roomy = prompts.prompt(ask, 256), prompts.prompt(ask, 256, 100)
    assert 157 < len(full.tokens) <= 256
    assert len(roomy.tokens) <= 157
    assert full.tokens[-50:] == roomy.tokens[-50:]
    assert len(prompts.prompt(replace(ask, messages=turns[:1]), 16, 8).tokens) == 9


def test_a_last_assistants_turn_is_continued(service: Service) -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    template += "{% if add_generation_prompt %}<assistant>{% endif %}"
    turns = (Message("user", "Tell."), Message("assistant", "The cat"))
    prompt = service.asking.prompter.prompt(Ask(messages=turns, template=template))
    decoded = service.started.tokenizer.decode(prompt.tokens)
    expected = "<user>Tell.</><assistant>The cat"
    again = service.started.tokenizer
    assert decoded == again.decode(again.encode(expected, special=False))


def test_an_answer_is_held_to_a_form_after_its_reasoning(service: Service) -> None:
    schema = {
        "type": "object",
        "properties": {"sea": {"enum": ["calm", "wild"]}},
        "required": ["sea"],
        "additionalProperties": False,
    }
    form = Form("schema", json.dumps(schema))
    template = "{{ messages[0].content }} <think>"
    sampling = SamplingOptions(temperature=0, max_tokens=120)
    plain = Ask(prompt=STORY, raw=True, sampling=sampling, form=form)
    assert json.loads(text_of(list(service.generate(plain))))["sea"] in ("calm", "wild")
    thinking = Ask(prompt=STORY, template=template, sampling=greedy(20), form=form)
    events = list(service.generate(thinking))
    kinds = {part.kind for event in events for part in event.parts}
    assert kinds == {"reasoning"}  # this model never closes it: nothing was forced on it
    prompt = service.asking.prompter.prompt(thinking)
    held = service.asking.prepare(thinking, lambda *_: None).request.constraint
    assert held is not None
    assert prompt.thinks
    for token in service.started.tokenizer.encode("Well. </think>", special=False):
        assert held.allowed() is None
        held.accept(token)
    assert held.allowed() is not None
    with pytest.raises(UsageError):
        list(service.generate(Ask(prompt="x", raw=True, form=Form("schema", "{"))))


def test_alternatives_have_texts(service: Service) -> None:
    ask = Ask(prompt=STORY, raw=True, sampling=greedy(5, top_logprobs=3))
    for event in list(service.generate(ask))[:-1]:
        assert len(event.alternatives) == 3
        assert event.alternatives[0].token == event.token
        assert event.alternatives[0].text == event.piece != ""
        assert event.alternatives[0].logprob == pytest.approx(event.logprob)


def test_planes_of_an_ask_repeat_its_text(service: Service, seed_path: Path) -> None:
    every = service.state().all_planes
    assert every > 1
    base = Service(Order(str(seed_path), groups=0))
    expected = list(base.generate(raw(tokens=30)))
    base.close()
    beside = service.generate(raw("The dog", 40))
    next(beside)
    events = list(service.generate(raw(tokens=30, planes=1)))
    assert text_of(events) == text_of(expected)
    assert {event.planes for event in events} == {1}
    list(beside)
    assert next(iter(service.generate(raw(tokens=1)))).planes == every
    assert service.control(Control("pin", 1)).pinned
    assert next(iter(service.generate(raw(tokens=1)))).planes == 1
    service.control(Control("pin"))
    assert next(iter(service.generate(raw(tokens=1)))).planes == every


def test_texts_become_vectors_between_steps(service: Service) -> None:
    going = service.generate(raw(tokens=20))
    next(going)
    found = service.embed(EmbedAsk(("a cat", "a dog")))
    vectors = np.frombuffer(found.vectors, np.float32).reshape(2, found.width)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    longer = service.embed(EmbedAsk(("a cat",), normalize=False))
    plain = np.frombuffer(longer.vectors, np.float32)
    np.testing.assert_allclose(plain / np.linalg.norm(plain), vectors[0], rtol=0, atol=1e-6)
    assert len(list(going)) == 20


def test_a_closed_model_ends_its_answers(seed_path: Path) -> None:
    made = Service(Order(str(seed_path)))
    going = made.generate(raw(tokens=400))
    next(going)
    made.close()
    with pytest.raises(ResourceError, match="stopped"):
        list(going)
    with pytest.raises(ResourceError, match="stopped"):
        list(made.generate(raw()))
