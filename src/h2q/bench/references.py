"""What figures are ratios to, as contestants of a race and as rows of their own: reading memory,
bare multiply-adds, threads that meet.
"""

from __future__ import annotations

from functools import partial

from h2q import kernels
from h2q.bench.materials import Materials, code_bytes, words
from h2q.bench.rows import Limit, Row, Target
from h2q.bench.timing import Contestant, Timing, Timings, race
from h2q.codec.planes import Plane
from h2q.kernels import references

DOT_ROUNDS = 1 << 14
MEETING_TARGET = 5e-6  # seconds


def counts() -> list[int]:
    """Numbers of threads to measure: one, two, and all of the pool."""
    every = kernels.threads()
    return sorted({1, min(2, every), every})


def in_words(threads: int) -> str:
    """How a row's name says it."""
    return "1 thread" if threads == 1 else f"{threads} threads"


def reads(planes: list[Plane], threads: int) -> list[Contestant]:
    """Reading the codes of all planes, in every form there is."""
    parts = [words(plane) for plane in planes]

    def read(form: int) -> None:
        for part in parts:
            references.read_words(part, form)

    return [
        Contestant(f"{_read(threads)} {form}", partial(read, form), threads)
        for form in range(references.read_forms())
    ]


def read_time(timings: Timings, threads: int) -> Timing:
    """The fastest of the forms of `reads`."""
    found = [t for name, t in timings.items() if name.startswith(_read(threads) + " ")]
    return min(found, key=lambda timing: timing.best)


def dots(threads: int, path: str = "") -> Contestant:
    """Bare multiply-adds on a path."""
    return Contestant(
        _dots(threads, path), lambda: references.repeat_dots(DOT_ROUNDS), threads, path
    )


def dot_limit(timings: Timings, adds: int, threads: int, path: str = "") -> Limit:
    """The time of so many multiply-adds at the speed that `dots` reached."""
    name = _dots(threads, path)
    return Limit("bare multiply-adds", adds / _dots_done(threads, path) * timings[name].best)


def read_limit(timings: Timings, threads: int) -> Limit:
    """The time of reading what `reads` read."""
    return Limit("reading the codes", read_time(timings, threads).best)


def reference_rows(materials: Materials) -> list[Row]:
    """Reading, multiply-adds of every path, and the meeting of threads."""
    sizes, planes = materials.sizes, [materials.two]
    numbers = words(materials.two)
    contestants = [Contestant("numpy", lambda: numbers.sum(), 1)]
    for threads in counts():
        contestants += [*reads(planes, threads), dots(threads), *_meetings(threads, sizes.meetings)]
    native = [path for path in kernels.available() if path != "numpy"]
    contestants += [dots(1, path) for path in native]
    timings = race(contestants, sizes.seconds, sizes.sample)
    rows = [_read_row(timings, threads, code_bytes(planes)) for threads in counts()]
    fastest = dot_limit(timings, 1, 1).seconds
    rows += [_dots_row(timings, threads, "", fastest) for threads in counts()]
    rows += [_dots_row(timings, 1, path, fastest) for path in native]
    for threads in counts():
        rows += _meeting_rows(timings, threads, sizes.meetings)
    return rows


def _read(threads: int) -> str:
    return f"read {threads}"


def _dots(threads: int, path: str) -> str:
    return f"dots {threads} {path}"


def _dots_done(threads: int, path: str) -> int:
    """Multiply-adds of one call of `dots`."""
    before = kernels.threads()
    kernels.set_threads(threads)
    try:
        with kernels.using(path or kernels.path()):
            return references.repeat_dots(DOT_ROUNDS)
    finally:
        kernels.set_threads(before)


def _meetings(threads: int, jobs: int) -> list[Contestant]:
    return [
        Contestant(
            f"{what} {threads}",
            partial(references.synchronise, jobs, what == "meeting"),
            threads,
        )
        for what in ("empty", "meeting")
    ]


def _read_row(timings: Timings, threads: int, size: int) -> Row:
    timing, numpy = read_time(timings, threads), timings["numpy"]
    return Row(
        name=f"pure read of the codes, {in_words(threads)}",
        path=kernels.path(),
        threads=threads,
        timing=timing,
        value=size / timing.best,
        unit="bytes/s",
        ratio=numpy.best / timing.best,
        ratio_to="NumPy's sum of the same words, 1 thread",
    )


def _dots_row(timings: Timings, threads: int, path: str, fastest: float) -> Row:
    timing = timings[_dots(threads, path)]
    each = dot_limit(timings, 1, threads, path).seconds
    return Row(
        name=f"bare multiply-adds{path and ' on ' + path}, {in_words(threads)}",
        path=path or kernels.path(),
        threads=threads,
        timing=timing,
        value=1 / each,
        unit="multiply-adds/s",
        ratio=fastest / each,
        ratio_to="the active path on 1 thread",
    )


def _meeting_rows(timings: Timings, threads: int, jobs: int) -> list[Row]:
    rows = []
    alone = timings["meeting 1"].part(jobs)
    for what, name in (("empty", "an empty job"), ("meeting", "all threads meet")):
        timing = timings[f"{what} {threads}"].part(jobs)
        met = what == "meeting"
        rows.append(
            Row(
                name=f"{name}, {in_words(threads)}",
                path=kernels.path(),
                threads=threads,
                timing=timing,
                value=timing.best,
                unit="s",
                ratio=timing.best / alone.best,
                ratio_to="the same job on 1 thread",
                target=Target("value", most=MEETING_TARGET) if met and threads > 1 else None,
            )
        )
    return rows
