"""The room of experts and the statistics of routers, by law."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from h2q.engine.behind import Behind
from h2q.engine.expert_room import ABOVE, BASE, ExpertRoom
from h2q.engine.followers import Followers


def check(room: ExpertRoom) -> None:
    assert room.used == room.sizes[room.resident | room.coming].sum()
    assert room.used <= room.budget
    assert not (room.resident & room.coming).any()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_budget_holds(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 100, (2, 40)) * (draw.random((2, 1)) < [[1], [0.7]])
    room = ExpertRoom(
        sizes, int(sizes.sum(axis=0).max() + draw.integers(0, sizes.sum() // 2)), True
    )
    refused = left = 0
    for _ in range(400):
        experts = draw.choice(40, 5, replace=False)
        room.age(int(draw.integers(1, 200)))
        room.note(experts, np.ones(5, np.int64))
        room.wanted[:] = False
        room.wanted[experts] = True
        for expert in map(int, experts):
            room.busy[expert] = True
            for level in (BASE, ABOVE):
                if room.sizes[level, expert] and not room.resident[level, expert]:
                    urgent = level == BASE or draw.random() < 0.5
                    gone = room.take(level, expert, urgent)
                    check(room)
                    refused += gone is None
                    left += len(gone or [])
                    assert not urgent or gone is not None
                    assert all(one != expert for _, one in gone or [])
                    if gone is not None:
                        room.arrive(level, expert)
                        check(room)
            room.busy[expert] = False
    assert room.peak <= room.budget
    assert left > 0
    assert np.isfinite(room.worth).all()


def full_room(alone: bool) -> ExpertRoom:
    """Three experts, used ten, nine and eight times, filled it; the base of a fourth has
    driven out the upper planes of the last.
    """
    room = ExpertRoom(np.full((2, 8), 10), 60, alone)
    for expert in range(3):
        room.note(np.array([expert]), np.array([10 - expert]))
        for level in (BASE, ABOVE):
            assert room.take(level, expert) == []
            room.arrive(level, expert)
    room.note(np.array([5]), np.array([1]))
    assert room.take(BASE, 5) == [(ABOVE, 2)]
    room.arrive(BASE, 5)
    return room


def test_what_is_used_most_stays_and_upper_planes_leave_first() -> None:
    room = full_room(alone=True)
    assert room.take(ABOVE, 5, urgent=False) is None  # a quarter of one use is worth less than all
    check(room)
    assert room.take(ABOVE, 5) == [(ABOVE, 1)]
    room.arrive(ABOVE, 5)
    room.age(10_000)  # old uses count for nothing any more
    room.note(np.array([6]), np.array([1]))
    assert room.take(BASE, 6) == [(ABOVE, 5)]


def test_where_bases_cannot_answer_alone_experts_stay_whole() -> None:
    room = full_room(alone=False)
    assert room.take(ABOVE, 5) == [(BASE, 2)]  # its other half is gone: of no use
    room.arrive(ABOVE, 5)
    check(room)
    assert room.resident[:, [0, 1, 5]].all()


def test_what_is_at_work_stays() -> None:
    room = ExpertRoom(np.array([[10, 10], [0, 0]]), 10, alone=True)
    assert room.take(BASE, 0) == []
    room.arrive(BASE, 0)
    room.busy[0] = True
    assert room.take(BASE, 1) is None
    room.busy[0], room.wanted[0] = False, True
    assert room.take(BASE, 1) == [(BASE, 0)]


def test_followers_are_learnt_and_chance_is_not() -> None:
    draw = np.random.default_rng(1)
    followers, guesses = Followers(2, 16), 0
    after = draw.permutation(16)
    for token in range(300):
        first = np.sort(draw.choice(16, 3, replace=False))[None]
        followers.learn(0, first)
        likely = followers.likely(1)
        assert token or not len(likely)
        if token >= 150:
            assert set(likely) == set(after[first[0]])
        followers.learn(1, after[first])
        guesses += len(followers.likely(0))  # of the next token, which is drawn
    assert guesses < 0.02 * 3 * 300


def test_work_behind_is_done_once_and_ends() -> None:
    done: list[int] = []
    hold = threading.Event()

    def work(number: int) -> None:
        hold.wait(5)
        done.append(number)

    behind = Behind(work, 3)
    for number in (0, 1, 1, 2, 3, 4):
        behind.give(number)
    hold.set()
    behind.settle()
    assert done[-3:] == [2, 3, 4]
    assert len(done) == len(set(done))
    behind.close()
    behind.give(9)
    assert 9 not in done
