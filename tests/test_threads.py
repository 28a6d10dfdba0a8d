"""Threads: any number of them gives the same bits; callers, changes of size, forks, callbacks and
exits do not disturb each other.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from h2q import kernels
from h2q.core.attention import AttentionRule
from h2q.core.errors import KernelError
from h2q.geometry.rotation import rotation
from planes import NATIVE, normal, random_stack

COUNTS = (1, 2, 3, 5, 9, 10)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = kernels.threads()
    yield
    kernels.set_threads(before)


@pytest.mark.parametrize("path", NATIVE)
@pytest.mark.parametrize(
    ("rows", "cols", "tokens"),
    [(16, 8192, 1), (256, 4096, 1), (256, 1024, 5), (300, 260, 17), (131, 515, 40)],
)
def test_threads_change_no_product(path: str, rows: int, cols: int, tokens: int) -> None:
    """Few rows of many columns are cut into ranges of columns, whose sums meet again exactly."""
    draw = np.random.default_rng(rows)
    x = kernels.quantize(normal(draw, tokens, cols))
    with kernels.using(path):
        for bits in ((2,), (2, 1), (1, 1, 1)):
            stack = random_stack(draw, bits, rows, cols)
            kernels.set_threads(1)
            expected = kernels.matmul_planes(x, stack)
            for count in COUNTS:
                kernels.set_threads(count)
                np.testing.assert_array_equal(kernels.matmul_planes(x, stack), expected)


@pytest.mark.parametrize("path", NATIVE)
def test_threads_change_nothing_else(path: str) -> None:
    draw = np.random.default_rng(0)
    x, turn = normal(draw, 60, 768), rotation(0, 768)
    stack, ids = random_stack(draw, (2, 1), 700, 768), draw.integers(0, 700, 90)
    dense, cos = normal(draw, 600, 768), normal(draw, 60, 32)
    q, k = normal(draw, 1, 60, 12, 64), normal(draw, 1, 4, 60, 64)
    target = normal(draw, 48, 40) * 27
    work: list[Callable[[], np.ndarray]] = [
        lambda: kernels.rotate(x, turn),
        lambda: kernels.unrotate(x, turn),
        lambda: kernels.quantize(x).codes,
        lambda: kernels.rotate_quantize(x, turn).codes,
        lambda: kernels.matmul_dense(x, dense),
        lambda: kernels.gather_rows(stack, ids),
        lambda: kernels.decode_plane(stack[0].spec, stack[0].codes),
        lambda: kernels.rms_norm(x, x[0], 1e-5),
        lambda: kernels.swiglu(np.tile(x, (4, 1)), np.tile(x, (4, 1))),
        lambda: kernels.rope(x.reshape(60, 12, 64), cos, cos),
        lambda: kernels.attention(q, k, k, 0, AttentionRule(0.25)),
        lambda: kernels.encode_plane(target, 2),
    ]
    with kernels.using(path):
        kernels.set_threads(1)
        expected = [operation() for operation in work]
        for count in COUNTS[1:]:
            kernels.set_threads(count)
            for operation, result in zip(work, expected, strict=True):
                np.testing.assert_array_equal(operation(), result)


@pytest.mark.parametrize("count", [0, -1, 257, 2**31, 2**70])
def test_a_senseless_number_of_threads_is_refused(count: int) -> None:
    before = kernels.threads()
    with pytest.raises(KernelError):
        kernels.set_threads(count)
    assert kernels.threads() == before


def test_many_callers_while_the_pool_changes_its_size() -> None:
    draw = np.random.default_rng(0)
    stack = random_stack(draw, (2, 1), 263, 520)
    x, target, turn = normal(draw, 3, 520), normal(draw, 64, 48) * 27, rotation(0, 520)
    inputs = kernels.rotate_quantize(x, turn)
    work: list[Callable[[], np.ndarray]] = [
        lambda: kernels.matmul_planes(inputs, stack),
        lambda: kernels.encode_plane(target, 2),
        lambda: kernels.rotate(np.tile(x, (200, 1)), turn),
        lambda: kernels.gather_rows(stack, np.arange(263)),
    ]
    expected = [operation() for operation in work]
    stop = threading.Event()

    def change() -> None:
        count = 0
        while not stop.is_set():
            count = count % 9 + 1
            kernels.set_threads(count)

    def call(caller: int) -> None:
        for turn_of in range(25):
            which = (caller + turn_of) % len(work)
            np.testing.assert_array_equal(work[which](), expected[which])

    with ThreadPoolExecutor(7) as people:
        changing = people.submit(change)
        calls = [people.submit(call, caller) for caller in range(6)]
        try:
            for done in calls:
                done.result()
        finally:
            stop.set()
        changing.result()


def test_a_long_operation_lets_other_python_threads_run() -> None:
    """Nobody is switched to by the interpreter itself, so that the counter moves only while the
    operation has let go of it.
    """
    draw = np.random.default_rng(0)
    target = normal(draw, 128, 96) * 27
    count, stop, interval = [0], threading.Event(), sys.getswitchinterval()

    def counting() -> None:
        while not stop.is_set():
            count[0] += 1
            stop.wait(1e-4)

    counter = threading.Thread(target=counting)
    counter.start()
    sys.setswitchinterval(1000)
    try:
        for _ in range(100):
            before = count[0]
            kernels.encode_plane(target, 2)
            if count[0] - before > 2:
                break
        else:
            pytest.fail("the counter stood still")
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        counter.join()


@pytest.mark.parametrize("path", kernels.available())
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, RuntimeError])
def test_what_a_progress_callback_raises_arrives(path: str, kind: type[BaseException]) -> None:
    def progress(share: float) -> bool:
        raise kind("from the callback")

    target = np.zeros((16, 64), np.float32)
    with kernels.using(path):
        with pytest.raises(kind, match="from the callback"):
            kernels.encode_plane(target, 2, progress=progress)
        kernels.encode_plane(target, 2)  # and the pool still works


def test_a_progress_callback_may_use_the_kernels_and_resize_the_pool() -> None:
    draw = np.random.default_rng(0)
    target, x = normal(draw, 300, 64) * 27, normal(draw, 64, 768)
    expected, turned = kernels.encode_plane(target, 2), kernels.rotate(x, rotation(0, 768))

    def progress(share: float) -> bool:
        kernels.set_threads(1 + int(share * 8))
        np.testing.assert_array_equal(kernels.rotate(x, rotation(0, 768)), turned)
        return True

    np.testing.assert_array_equal(kernels.encode_plane(target, 2, progress=progress), expected)


PREPARE = """
import os, sys, threading
import numpy as np
from h2q import kernels
kernels.set_threads(4)
target = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) * 27
expected = kernels.encode_plane(target, 2)
"""
FORK = """
stop = threading.Event()
def busy():
    while not stop.is_set():
        kernels.encode_plane(target, 2)
thread = threading.Thread(target=busy)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        same = np.array_equal(kernels.encode_plane(target, 2), expected)
        os._exit(0 if same and kernels.threads() == 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
thread.join()
"""


@pytest.mark.parametrize(
    "ending",
    ["", "import time; time.sleep(0.01)", "sys.exit(0)", FORK],
    ids=["at once", "asleep", "exit", "fork"],
)
def test_a_process_ends_cleanly(ending: str) -> None:
    """While workers spin or sleep; and a forked child computes with threads of its own."""
    if ending == FORK and not hasattr(sys.modules["os"], "fork"):
        pytest.skip("this system does not fork")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREPARE + ending],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
