"""What is measured of a start from within its own process: WHAT CRYSTAL MORE. One JSON object on
stdout.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h2q.bench.random_crystal import EIGHT_TOKENS as PROMPT
from h2q.core.memory import peak_rss_bytes
from h2q.runtime.process import age_seconds, rss_bytes

if TYPE_CHECKING:
    from h2q.core.events import TokenEvent
    from h2q.runtime.service import Service

WATCHED = 0.005  # seconds between two looks at the resident set
SETTLED = 0.9  # of a plane's bytes are back

Found = dict[str, Any]


def _model(path: Path, **more: Any) -> Service:
    from h2q.runtime.hot_start import HotStartManager

    return HotStartManager().start(path, **more)


def _said(service: Service, text: str, tokens: int) -> Iterator[TokenEvent]:
    from h2q.core.asks import Ask
    from h2q.core.sampling_options import SamplingOptions

    sampling = SamplingOptions(temperature=1.0, max_tokens=tokens, seed=5)
    return service.generate(Ask(prompt=text, raw=True, sampling=sampling, split=False))


def first(path: Path) -> Found:
    """Bytes of each shard in memory when the first token is said, by the system's own account."""
    from h2q.bench.file_cache import cached

    service, found = _model(path), Found()

    def look() -> None:
        if not found:
            found["seconds"] = age_seconds()
            found["bytes"] = {p.name: cached(p) for p in sorted(path.glob("*.safetensors"))}

    service.hook = look  # when the token was told, before anything else goes on
    next(_said(service, PROMPT, 4))
    service.close()
    return found


def streaming(path: Path, tokens: int) -> Found:
    """Seconds of a token at the base planes: while all refinement streams in from the disk, and
    with nothing else going on, in turns.
    """
    from h2q.bench.file_cache import chill

    shards = sorted(path.glob("refine-*.safetensors"))
    during: list[float] = []
    alone: list[float] = []
    for _ in range(3):
        gc.collect()
        chill(shards)
        service = _model(path)
        service.started.pin(1)
        for seconds, streams in _paced(service, tokens, shards):
            (during if streams else alone).append(seconds)
        service.close()
        del service  # and its maps, which hold the files in memory
    return {"during": during, "alone": alone}


def _paced(service: Service, tokens: int, shards: list[Path]) -> Iterator[tuple[float, bool]]:
    """Seconds of each token but the first two, and whether some of the shards still came in."""
    whole, last = sum(shard.stat().st_size for shard in shards), 0.0
    for event in _said(service, PROMPT, tokens):
        now = time.perf_counter()
        if event.index >= 2 and not event.finish:
            yield now - last, service.started.refined < whole
        last = now


def drop(path: Path) -> Found:
    """Seconds until the memory of a dropped plane is back, of each in turn; the model is idle."""
    from h2q.runtime.service import Service
    from h2q.runtime.worker import Control, Order

    service = Service(Order(str(path)))
    every = service.state().all_planes
    while service.state().planes < every:
        time.sleep(0.01)
    taken = []
    for plane in range(every, 1, -1):
        size = (path / f"refine-{plane - 1:02d}.safetensors").stat().st_size
        before, began = rss_bytes(), time.perf_counter()
        service.control(Control("drop"))
        while before - rss_bytes() < SETTLED * size and time.perf_counter() - began < 5:
            time.sleep(0.0005)
        taken.append(time.perf_counter() - began)
    service.close()
    return {"seconds": taken, "planes": every}


def budget(path: Path, memory: int, prompt: int, tokens: int) -> Found:
    """The resident set at most, watched through a long prompt and a long text."""
    ended, most = threading.Event(), [0]

    def watch() -> None:
        while not ended.wait(WATCHED):
            most[0] = max(most[0], rss_bytes())

    threading.Thread(target=watch, daemon=True).start()
    service = _model(path, memory=memory)
    events = 0
    began = 0.0
    for event in _said(service, "q!Z" * (prompt // 3), tokens):
        began = began or time.perf_counter()
        events += not event.finish
    took = time.perf_counter() - began
    ended.set()
    started = service.started
    found = {
        "memory": memory,
        "peak": max(most[0], peak_rss_bytes()),
        "planes": started.planes,
        "context": started.order.context,
        "rows": started.rows,
        "tokens": events,
        "tokens_per_second": (events - 1) / took if events > 1 else 0.0,
        "streamed": bool(started.warning),
        "expected": getattr(started, "expected", 0.0),
        "arenas": [vars(state) for state in started.memory.state()],
    }
    service.close()
    return found


def requests(path: Path, count: int) -> Found:
    """The resident set after a tenth of many requests and after all of them."""
    from h2q.core.asks import Ask
    from h2q.core.sampling_options import SamplingOptions
    from h2q.runtime.pool import heap
    from h2q.runtime.service import Service
    from h2q.runtime.worker import Order

    service = Service(Order(str(path)))
    marks: dict[str, int] = {}
    for index in range(count):
        text = f"{index} " + "q!Z" * (index % 40)
        sampling = SamplingOptions(max_tokens=1 + index % 3, seed=index)
        for _ in service.generate(Ask(prompt=text, raw=True, sampling=sampling)):
            pass
        if index == count // 10:
            marks = {"before": rss_bytes(), "heap_before": heap().used}
    state = service.state()
    found = {
        **marks,
        "after": rss_bytes(),
        "heap_after": heap().used,
        "heap_fragmentation": heap().fragmentation,
        "pages_in_use": state.cache,
        "arenas": [vars(arena) for arena in service.started.memory.state()],
    }
    service.close()
    return found


MEASURES: dict[str, Callable[..., Found]] = {
    "first": first,
    "streaming": streaming,
    "drop": drop,
    "budget": budget,
    "requests": requests,
}


if __name__ == "__main__":
    found = MEASURES[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))
    sys.stdout.write(json.dumps(found) + "\n")
