"""What a worker tells of itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from h2q.runtime.pool import heap
from h2q.runtime.process import rss_bytes
from h2q.runtime.worker import WorkerState

if TYPE_CHECKING:
    from h2q.runtime.service import Service


def state_of(service: Service) -> WorkerState:
    """Of a service in this process, now."""
    started, pool = service.started, service.pool
    return WorkerState(
        fingerprint=started.fingerprint,
        process=os.getpid(),
        planes=started.planes,
        all_planes=started.all_planes,
        pinned=started.pinned,
        context_length=service.asking.context,
        running=len(service.scheduler.running),
        waiting=service.waiting,
        resident=rss_bytes(),
        weights=started.weights,
        cache=(pool.count - pool.free) * pool.page_bytes,
        cache_capacity=pool.byte_count,
        scratch=heap().used,
        budget=started.budget,
        pressure=started.pressure,
        prefix_hits=service.prefix_hits,
        experts=started.experts,
        timeline=tuple(started.timeline),
        restored=service.warm.restored if service.warm else 0,
    )
