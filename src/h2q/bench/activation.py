"""How fast a model comes to life in a server: an order to a spare worker process, a prompt, and its
first token.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from h2q.core.asks import Ask
from h2q.core.sampling_options import SamplingOptions
from h2q.runtime.child import Spares
from h2q.runtime.remote import ProcessWorker
from h2q.runtime.worker import Order

REST = 2.0  # seconds in which the next spare gets ready


def activations(crystal: Path, prompt: str, repeats: int) -> list[float]:
    """Seconds from the order to the first token, of one worker after another."""
    return asyncio.run(_activations(crystal, prompt, repeats))


async def _activations(crystal: Path, prompt: str, repeats: int) -> list[float]:
    spares, found = Spares(), []
    try:
        for _ in range(repeats):
            spares.refill()
            ready = spares._next
            if ready is not None:
                await asyncio.wrap_future(ready)
            await asyncio.sleep(REST)
            worker = ProcessWorker(spares)
            began = time.perf_counter()
            await worker.start(Order(str(crystal)))
            ask = Ask(prompt=prompt, raw=True, sampling=SamplingOptions(max_tokens=4, seed=5))
            async for _event in worker.generate(ask):
                found.append(time.perf_counter() - began)
                break
            await worker.stop()
    finally:
        await spares.close()
    return found
