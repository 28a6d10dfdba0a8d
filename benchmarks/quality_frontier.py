"""What is compared on the frontier: files and prefixes with their bytes and losses, and who needs
less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from h2q.crystallize import Comparison

MOST_RATIO = 0.5  # of our divergence over the peer's at no more bytes
RATIOS = (10, 12, 16, 20, 32, 50)
NEAR = 1.15  # a prefix this much smaller than a ratio asks for still stands for it


@dataclass(frozen=True)
class Entry:
    """A model on disk. `bytes` is what the verdict counts: a crystal's shards and crystal.json, a
    GGUF file without the keys of its tokenizer; `file_bytes` is everything a GGUF file holds.
    `bits_nominal`: per weight, of planes or of the main type, without scales of rows or metadata.
    `results` by name of the text.
    """

    name: str
    bytes: int
    file_bytes: int
    weight_bytes: int
    bits_nominal: float
    results: dict[str, Comparison]

    def bits_actual(self, weights: int) -> float:
        """Bits per weight of all bytes that count."""
        return 8 * self.bytes / weights

    def to_json(self, weights: int) -> dict[str, Any]:
        """All figures."""
        return {
            "name": self.name,
            "bytes": self.bytes,
            "file_bytes": self.file_bytes,
            "weight_bytes": self.weight_bytes,
            "bits_nominal": self.bits_nominal,
            "bits_actual": self.bits_actual(weights),
            "ratio_fp32": 4 * weights / self.bytes,
            "texts": {text: result.to_json() for text, result in self.results.items()},
        }


@dataclass(frozen=True)
class Verdict:
    """Our best prefix at no more bytes than a peer's file; `ours` is None where there is none."""

    text: str
    theirs: Entry
    ours: Entry | None

    @property
    def ratio(self) -> float | None:
        """Our mean KL divergence over theirs."""
        if self.ours is None:
            return None
        return self.ours.results[self.text].kl_mean / self.theirs.results[self.text].kl_mean

    @property
    def holds(self) -> bool:
        """Whether ours is at most MOST_RATIO of theirs."""
        return self.ratio is not None and self.ratio <= MOST_RATIO

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "text": self.text,
            "theirs": self.theirs.name,
            "their_bytes": self.theirs.bytes,
            "their_kl": self.theirs.results[self.text].kl_mean,
            "ours": self.ours and self.ours.name,
            "our_bytes": self.ours and self.ours.bytes,
            "our_kl": self.ours and self.ours.results[self.text].kl_mean,
            "ratio": self.ratio,
            "target_most": MOST_RATIO,
            "holds": self.holds,
        }


def best(ours: Sequence[Entry], text: str, most_bytes: float) -> Entry | None:
    """The prefix with the least divergence among those of at most so many bytes."""
    fitting = [entry for entry in ours if entry.bytes <= most_bytes]
    return min(fitting, key=lambda entry: entry.results[text].kl_mean, default=None)


def verdicts(theirs: Sequence[Entry], ours: Sequence[Entry], text: str) -> list[Verdict]:
    """One per file of the peer."""
    return [Verdict(text, entry, best(ours, text, entry.bytes)) for entry in theirs]


def frontier(ours: Sequence[Entry], text: str) -> list[Entry]:
    """Prefixes that no smaller one equals, by bytes."""
    kept: list[Entry] = []
    for entry in sorted(ours, key=lambda e: (e.bytes, e.results[text].kl_mean)):
        if not kept or entry.results[text].kl_mean < kept[-1].results[text].kl_mean:
            kept.append(entry)
    return kept


def at_ratios(ours: Sequence[Entry], text: str, weights: int) -> dict[int, Entry]:
    """Our best prefix at each of RATIOS (float32 over crystal), where there is one."""
    found = {}
    for ratio in RATIOS:
        most = 4 * weights / ratio
        near = [entry for entry in ours if entry.bytes > most / NEAR]
        if (entry := best(near, text, most)) is not None:
            found[ratio] = entry
    return found
