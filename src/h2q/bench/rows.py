"""One measured figure: its value, what it is a ratio to, what was asked of it, what limits it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from h2q.bench.timing import Timing


@dataclass(frozen=True)
class Target:
    """What a figure should reach: its `value` or its `ratio`, at least or at most so much."""

    of: str
    least: float | None = None
    most: float | None = None

    def figure(self, row: Row) -> float:
        """What is compared."""
        return row.value if self.of == "value" else row.ratio

    def holds(self, figure: float) -> bool:
        """Whether a figure is within the bounds."""
        above = self.least is None or figure >= self.least
        return above and (self.most is None or figure <= self.most)

    def at_limit(self, row: Row, limit: Limit) -> float:
        """The figure if the row took no longer than its limit: a speed grows, a time shrinks."""
        share = limit.seconds / row.timing.best
        return self.figure(row) / share if self.most is None else self.figure(row) * share

    def document(self, row: Row) -> dict[str, Any]:
        """Plain JSON types: the bound, whether it is reached, what the binding limit would give."""
        bounds = {"least": self.least, "most": self.most}
        asked = {name: number for name, number in bounds.items() if number is not None}
        out: dict[str, Any] = {"of": self.of, **asked, "reached": self.holds(self.figure(row))}
        if row.limit is not None:
            best = self.at_limit(row, row.limit)
            out |= {"at_limit": best, "limit_allows": self.holds(best)}
        return out


@dataclass(frozen=True)
class Limit:
    """The least time that another measurement of the same run allows: `by` names it."""

    by: str
    seconds: float


@dataclass(frozen=True)
class Row:
    """A figure; `value` and `ratio` are taken from the best time."""

    name: str
    path: str
    threads: int
    timing: Timing
    value: float
    unit: str
    ratio: float
    ratio_to: str
    target: Target | None = None
    limits: tuple[Limit, ...] = ()

    @property
    def limit(self) -> Limit | None:
        """The limit that binds: the one that takes longest."""
        return max(self.limits, key=lambda limit: limit.seconds, default=None)

    def document(self) -> dict[str, Any]:
        """Plain JSON types. `share` of a limit is the speed as a part of what the limit allows."""
        out: dict[str, Any] = {
            "value": self.value,
            "unit": self.unit,
            "ratio": self.ratio,
            "ratio_to": self.ratio_to,
        }
        if self.target:
            out["target"] = self.target.document(self)
        if self.limits:
            out["limits"] = [
                {**asdict(limit), "share": limit.seconds / self.timing.best}
                for limit in self.limits
            ]
        return {
            **out,
            "path": self.path,
            "threads": self.threads,
            "seconds": self.timing.best,
            "median_seconds": self.timing.median,
            "rounds": self.timing.rounds,
        }
