"""Which way an order is started: in stages, or, where it does not fit its memory, from the disk."""

from __future__ import annotations

from h2q.core.errors import UsageError
from h2q.runtime.loading import Started
from h2q.runtime.opening import Opening
from h2q.runtime.staged import SMALL, Staged
from h2q.runtime.worker import Order


def start(order: Order, pin: int | None = None, small: int = SMALL) -> Started:
    """A model that can answer. pin: exactly so many planes from the first token on; small: bytes up
    to which a crystal is brought in whole. Raises CrystalError, TextError, and ResourceError when
    its memory is not enough.
    """
    opening = Opening(order)
    made = opening.plan
    if made is None:
        return Staged(opening, pin, small)
    if pin is not None and pin - 1 > made.groups:
        raise UsageError(
            f"{pin} planes do not fit the memory; {1 + made.groups} do.",
            where="pin",
            fix="Pin fewer, or give the model more memory.",
        )
    # The rarer ways are loaded when they are gone: a start waits for every module.
    from h2q.runtime.expert_budget import ExpertPlan

    if isinstance(made, ExpertPlan):
        from h2q.runtime.mixed import Mixed

        opening.crystal.prove_first(1 + made.groups)  # all of it is used at once
        return Mixed(opening, made, pin)
    if made.streamed:
        from h2q.runtime.streamed import Streamed

        return Streamed(opening)
    return Staged(opening, pin, small)
