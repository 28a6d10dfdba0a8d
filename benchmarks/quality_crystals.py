"""The crystals of the frontier: one as small as each of llama.cpp's files, one per ratio, and the
smallest that holds a quality.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common_start import CommonStart
from h2q.core.errors import QualityError
from h2q.crystal import open_crystal
from h2q.crystallize import Options
from h2q.crystallize.allocate import TOWERS
from h2q.sources import Source
from quality_frontier import RATIOS

QUALITY = 0.9
MOST_BITS = max(TOWERS)


@dataclass(frozen=True)
class Refused:
    """A crystal that cannot be, and the engine's words why."""

    name: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Both."""
        return {"name": self.name, "reason": self.reason}


class Garden:
    """Crystals of one source in `folder`; what stands there is not grown again."""

    def __init__(self, source: Source, folder: Path, say: Callable[[str], None]) -> None:
        self.source, self.folder, self.say = source, folder, say
        self.refused: list[Refused] = []

    @cached_property
    def start(self) -> CommonStart:
        """Made when the first crystal is missing."""
        self.say("texts and sensitivities ...")
        return CommonStart(self.source, self.folder)

    def grown(self, sizes: Mapping[str, int], ratios: Sequence[float] = RATIOS) -> list[Path]:
        """Crystals for all targets, `sizes` being bytes by name; those that cannot be are in
        `refused`.
        """
        wanted = [
            *((f"as {name}", Options(size=size)) for name, size in sizes.items()),
            *((f"ratio {ratio:g}", Options(ratio=ratio)) for ratio in ratios),
            (f"quality {QUALITY:g}", Options(quality=QUALITY)),
        ]
        found = [path for name, options in wanted if (path := self._crystal(name, options))]
        return self._distinct(found)

    def _crystal(self, name: str, options: Options) -> Path | None:
        path = self.folder / f"{name.replace(' ', '-')}.crystal"
        if path.is_dir():
            return path
        self.say(f"grow {name} ...")
        try:
            self.start.crystal(path, options)
        except QualityError as error:
            self.refused.append(Refused(name, error.what))
            self.say(f"{name}: {error.what}")
            return None
        losses = json.loads((path / "certificate.json").read_text())["kl_mean"]
        self.say(f"  KL {losses:.5f} on sampled text")
        return path

    def _distinct(self, paths: Sequence[Path]) -> list[Path]:
        """Without repetitions of the largest crystal, which every larger size gets."""
        kept: list[Path] = []
        full = False
        for path in paths:
            stacks = open_crystal(path).manifest.bits.values()
            whole = all(sum(stack) == MOST_BITS for stack in stacks)
            if not (whole and full):
                kept.append(path)
            full = full or whole
        return kept
