"""What keeping experts on disk has cost so far."""

from __future__ import annotations

from dataclasses import dataclass

from h2q.core.units import format_bytes, format_seconds


@dataclass(frozen=True)
class ExpertTally:
    """Bytes: `budget` for experts, `resident` now, the `peak` of it, `every` expert together.

    An expert that a layer runs is a hit when all planes it may use are in memory, degraded when
    its base planes are and answer alone, a miss when the run waits for the disk; `stall`: seconds
    of that waiting, `read`: bytes that were waited for or came in behind. `foreseen`: experts asked
    for before their router chose, of them `foreseen_used` were chosen.
    """

    budget: int
    resident: int
    peak: int
    every: int
    hits: int = 0
    degraded: int = 0
    misses: int = 0
    stall: float = 0.0
    read: int = 0
    let_go: int = 0
    foreseen: int = 0
    foreseen_used: int = 0

    @property
    def runs(self) -> int:
        """Times that a layer ran an expert."""
        return self.hits + self.degraded + self.misses

    @property
    def hit_rate(self) -> float:
        """Share of them that waited for nothing, degraded ones included; 1 before the first."""
        return 1 - self.misses / self.runs if self.runs else 1.0

    def words(self) -> str:
        """One line for a person."""
        told = (
            f"experts: {format_bytes(self.resident)} of {format_bytes(self.every)} in memory, "
            f"{self.hit_rate:.0%} of {self.runs:,} runs waited for nothing"
        )
        if self.degraded:
            told += f" ({self.degraded / self.runs:.0%} with base planes)"
        return (
            f"{told}, the others {format_seconds(self.stall)} in all for {format_bytes(self.read)}"
        )
